import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Bundle, bundleToPem } from '../../identity/bundle.ts';
import { parseTrustDomain } from '../../identity/spiffe-id.ts';
import { FakeAuthority } from '../../test/fakes/fake-authority.ts';
import { temporaryDir } from '../../test/fixtures/running-server.ts';
import { lastingAttestor, nodeProof } from './node-proof.ts';

const trustDomain = parseTrustDomain('example.org');
const x509pop = { certificate_file: '/node.pem', private_key_file: '/node.key' };

describe('nodeProof', () => {
  let dir: ReturnType<typeof temporaryDir>;
  let configured: Bundle;
  let earlier: Bundle;
  before(async () => {
    dir = temporaryDir();
    configured = (await FakeAuthority.create(trustDomain)).bundle.value;
    earlier = (await FakeAuthority.create(trustDomain)).bundle.value;
  });
  after(() => dir[Symbol.dispose]());

  const file = (text: string) => {
    const path = join(dir.path, 'file');
    writeFileSync(path, text);
    return path;
  };
  const proof = (config: object, known?: Bundle) =>
    nodeProof({ insecure_bootstrap: false, ...config }, known);
  const rootsOf = (...bundles: readonly Bundle[]) =>
    bundles.flatMap(({ x509Authorities }) => x509Authorities.map(({ der }) => Buffer.from(der)));

  it('knows the server by the pins of a join string, whatever bundle there was', async () => {
    const pin = '0a'.repeat(32);
    const joinFile = file(`writ1.${'A'.repeat(43)}.${pin}`);
    const { attestor, trust } = await proof({ join_string_file: joinFile }, earlier);
    assert.deepEqual([attestor.type, trust], ['join_token', { kind: 'pins', pins: [pin] }]);
  });

  it('knows it by the configured roots and those of the bundle that it has had', async () => {
    const config = { node_attestor: { x509pop }, trust_bundle_file: file(bundleToPem(configured)) };
    for (const [known, roots] of [
      [undefined, rootsOf(configured)],
      [earlier, rootsOf(earlier, configured)],
    ] as const) {
      const { attestor, trust } = await proof(config, known);
      assert.equal(attestor.type, 'x509pop');
      assert.ok(trust.kind === 'roots');
      assert.deepEqual(
        trust.roots.map((der) => Buffer.from(der)),
        roots,
      );
    }
  });

  it('trusts whoever answers once, and only if it is told to', async () => {
    const config = { node_attestor: { x509pop }, insecure_bootstrap: true };
    assert.deepEqual((await proof(config)).trust, { kind: 'first-use' });
    assert.equal((await proof(config, earlier)).trust.kind, 'roots');
    await assert.rejects(proof({ ...config, insecure_bootstrap: false }), {
      code: 'CONFIG_INVALID',
      message: /^trust_bundle_file is missing/,
    });
  });

  it('names a trust bundle that is none', async () => {
    for (const text of ['', 'roots', '-----BEGIN CERTIFICATE-----'])
      await assert.rejects(
        proof({ node_attestor: { x509pop }, trust_bundle_file: file(text) }),
        (error: Error & { code?: string }) => {
          assert.equal(error.code, 'CONFIG_INVALID');
          assert.ok(error.message.startsWith(`trust_bundle_file: ${dir.path}`));
          return true;
        },
      );
  });

  it('has nothing that lasts where a token proves the node', () => {
    assert.equal(lastingAttestor({ node_attestor: undefined }), undefined);
    assert.equal(lastingAttestor({ node_attestor: { x509pop } })?.type, 'x509pop');
  });
});
