import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject, verify } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodePem } from '../../../identity/x509/pem.ts';
import { Fault } from '../../../runtime/fault.ts';
import {
  handMadeCa,
  handMadeCertificate,
  newKey,
} from '../../../test/fixtures/hand-made-certificate.ts';
import { mutations } from '../../../test/fixtures/mutations.ts';
import { temporaryDir } from '../../../test/fixtures/running-server.ts';
import { x509PopNodeAttestor } from './x509pop.ts';

const signal = new AbortController().signal;
const NONCE = Buffer.alloc(32, 7);
const challengeFor = (kind: 'rsa' | 'ecdsa', nonce: Uint8Array = NONCE) =>
  Buffer.from(
    JSON.stringify({
      ...{ rsa_signature: null, ecdsa_signature: null },
      [`${kind}_signature`]: { nonce: Buffer.from(nonce).toString('base64') },
    }),
  );

describe('x509PopNodeAttestor', () => {
  let dir: ReturnType<typeof temporaryDir>;
  const root = handMadeCa({ name: 'Nodes' });
  before(() => {
    dir = temporaryDir();
  });
  after(() => dir[Symbol.dispose]());

  const attestorFor = (key: KeyObject, above: readonly Uint8Array[] = []) => {
    const { der } = handMadeCertificate({ name: 'node-1', uris: [], issuer: root, key });
    const [certificateFile, privateKeyFile] = [join(dir.path, 'pem'), join(dir.path, 'key')];
    const chain = [der, ...above];
    writeFileSync(certificateFile, chain.map((one) => encodePem('CERTIFICATE', one)).join(''));
    writeFileSync(privateKeyFile, key.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
    return { attestor: x509PopNodeAttestor({ certificateFile, privateKeyFile }), der };
  };
  const parsed = (bytes: Uint8Array) => JSON.parse(Buffer.from(bytes).toString());

  it('shows the chain of its file, leaf first', async () => {
    const { attestor, der } = attestorFor(newKey(), [root.der]);
    const shown = [der, root.der].map((one) => Buffer.from(one).toString('base64'));
    assert.deepEqual(parsed(await attestor.evidence(signal)), { certificates: shown });
    assert.equal(attestor.canReattest, true);
  });

  it('reads its files anew at each attestation', async () => {
    const { attestor } = attestorFor(newKey());
    await attestor.evidence(signal);
    const { der } = attestorFor(newKey());
    const { certificates } = parsed(await attestor.evidence(signal));
    assert.deepEqual(certificates, [Buffer.from(der).toString('base64')]);
  });

  for (const [kind, key] of [
    ['ecdsa', newKey()],
    ['rsa', generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey],
  ] as const)
    it(`signs the server's nonce together with one of its own by its ${kind} key`, async () => {
      const { attestor } = attestorFor(key);
      await attestor.evidence(signal);
      const nonces = new Set<string>();
      for (let n = 0; n < 3; n += 1) {
        const response = parsed(await attestor.answer(challengeFor(kind), signal));
        const { nonce, signature, r, s } = response[`${kind}_signature`];
        nonces.add(nonce);
        const signed = Buffer.concat([NONCE, Buffer.from(nonce, 'base64')]);
        assert.equal(signed.length, 64);
        const pad = (number: string) => {
          const bytes = Buffer.from(number, 'base64');
          return Buffer.concat([Buffer.alloc(32 - bytes.length), bytes]);
        };
        assert.ok(
          kind === 'rsa'
            ? verify(
                'sha256',
                signed,
                { key, padding: 6, saltLength: 32 },
                Buffer.from(signature, 'base64'),
              )
            : verify(
                'sha256',
                signed,
                { key, dsaEncoding: 'ieee-p1363' },
                Buffer.concat([pad(r), pad(s)]),
              ),
        );
      }
      assert.equal(nonces.size, 3);
    });

  it('signs nothing for a challenge that is malformed or for another key', async () => {
    const { attestor } = attestorFor(newKey());
    await attestor.evidence(signal);
    const bad = [
      ...[challengeFor('rsa'), challengeFor('ecdsa', NONCE.subarray(1)), Buffer.of()],
      ...mutations(challengeFor('ecdsa'), 1000),
    ];
    for (const challenge of bad) {
      const outcome = await attestor.answer(challenge, signal).catch((error: unknown) => error);
      if (outcome instanceof Error)
        assert.ok(outcome instanceof Fault && outcome.code === 'ATTESTATION_DENIED', `${outcome}`);
      else assert.ok(JSON.stringify(parsed(challenge)).includes('"nonce"'));
    }
    for (const challenge of bad.slice(0, 3))
      await assert.rejects(attestor.answer(challenge, signal), { code: 'ATTESTATION_DENIED' });
  });

  it('refuses a file of more than a leaf and four above it', async () => {
    const { attestor } = attestorFor(newKey(), Array<Uint8Array>(5).fill(root.der));
    await assert.rejects(attestor.evidence(signal), { code: 'CONFIG_INVALID', message: /holds 6/ });
  });
});
