import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { verifySvid } from '../../identity/verify.ts';
import { der, TAG } from '../../identity/x509/der.ts';
import { derName, relativeName } from '../../identity/x509/subject-name.ts';
import { certificateRequest } from '../../test/fixtures/certificate-request.ts';
import { OPERATOR, RegistryWorld, TD } from '../../test/fixtures/registry-world.ts';

const text = (value: string, tag: number = TAG.utf8String) => der(tag, Buffer.from(value));
const COUNTRY = relativeName('2.5.4.6', text('NL', TAG.printableString));
const UNIT = relativeName('2.5.4.11', text('Ops'));

describe('Issuer.mintX509', () => {
  let world: RegistryWorld;
  beforeEach(async () => {
    world = await RegistryWorld.open();
  });
  afterEach(() => world[Symbol.asyncDispose]());

  const mint = async (asked: Partial<Parameters<typeof certificateRequest>[0]>) => {
    const csr = await certificateRequest({ uris: [`spiffe://${TD}/minted`], ...asked });
    const { chain } = await world.issuer.mintX509(csr, 0, OPERATOR);
    const bundle = world.authority.bundle.value;
    assert.equal(verifySvid(chain, () => bundle, world.clock.now()).id.path, '/minted');
    return new X509Certificate(chain[0] ?? Buffer.of());
  };
  const subject = (more: Partial<Parameters<typeof mint>[0]>) =>
    mint(more).then((one) => one.subject.split('\n'));
  const invalid = { code: 'INVALID_ARGUMENT' };

  it('gives the subject that the CSR asks for, and its own where it asks for none', async () => {
    assert.deepEqual(await subject({}), ['C=US', 'O=SPIRE']);
    const asked = derName([COUNTRY, UNIT], 'minted by hand');
    assert.deepEqual(await subject({ subject: asked }), ['C=NL', 'OU=Ops', 'CN=minted by hand']);
  });

  it('takes the first DNS name for the common name, as SPIRE does', async () => {
    const dnsNames = ['a.example.org', 'b.example.org'];
    const leaf = await mint({ dnsNames, subject: derName([UNIT], 'other') });
    assert.deepEqual(leaf.subject.split('\n'), ['OU=Ops', 'CN=a.example.org']);
    assert.match(leaf.subjectAltName ?? '', /DNS:a\.example\.org, DNS:b\.example\.org/);
    assert.deepEqual(await subject({ dnsNames }), ['C=US', 'O=SPIRE', 'CN=a.example.org']);
  });

  it('refuses a subject that no certificate should carry', () =>
    assert.rejects(mint({ subject: derName([], 'a\nb') }), invalid));

  it('refuses no SPIFFE ID and two', async () => {
    await assert.rejects(mint({ uris: [] }), invalid);
    const both = [`spiffe://${TD}/minted`, `spiffe://${TD}/other`];
    await assert.rejects(mint({ uris: both }), invalid);
  });

  it('refuses a malformed DNS name, and one beside a wildcard that covers it', async () => {
    for (const dnsNames of [['a..b'], ['*.a.org', 'b.a.org'], ['a b']])
      await assert.rejects(mint({ dnsNames }), invalid, dnsNames.join());
    assert.ok(await mint({ dnsNames: ['*.a.org', 'a.org', 'x.b.a.org'] }));
  });

  it("refuses a gateway's name, as DNS name and as common name", async () => {
    await world.store.transaction((tx) =>
      tx.run(
        `insert into gateways (id, name, backends, names, created_at_ms) values ('g', 'g', '[]', ?, 0)`,
        JSON.stringify(['gw.example.org']),
      ),
    );
    const denied = { code: 'PERMISSION_DENIED' };
    await assert.rejects(mint({ dnsNames: ['gw.example.org'] }), denied);
    await assert.rejects(mint({ subject: derName([], 'GW.example.org') }), denied);
  });
});
