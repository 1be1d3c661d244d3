import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bundleToPem } from '../../identity/bundle.ts';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { verifySvid } from '../../identity/verify.ts';
import { CRL_REASON, isCrlOf, parseCrl } from '../../identity/x509/crl.ts';
import { IdentityService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { X509Source } from '../../sdk/x509-source.ts';
import { hasProgram } from '../fixtures/programs.ts';
import { entryInit } from '../fixtures/registry-world.ts';
import { RunningAgent } from '../fixtures/running-agent.ts';
import { CALL, RunningServer, temporaryDir } from '../fixtures/running-server.ts';

const selectors = [`unix:uid:${process.getuid?.()}`];

describe('a revoked serial', () => {
  it('stands in the list that is served over HTTP and in what the Workload API tells', async () => {
    await using server = await RunningServer.start({ config: { crl: { listen: '127.0.0.1:0' } } });
    await using agent = await RunningAgent.start(server, 'spiffe://example.org/node');
    // A second identity, so that its holder sees what becomes of the first.
    for (const path of ['/other', '/web'])
      await server.createEntry(entryInit({ path, parent: '/node', selectors }));
    const endpoint = `unix://${agent.socket}`;
    const other = SpiffeId.parse('spiffe://example.org/other');
    const web = 'spiffe://example.org/web';
    const { signal } = new AbortController();
    await using watching = await X509Source.connect({ endpoint, spiffeId: other, signal });
    await using source = await X509Source.connect({
      ...{ endpoint, signal, spiffeId: SpiffeId.parse(web) },
    });
    const { chain } = source.svid.value;
    const bundle = await server.bundle();
    const { serial } = verifySvid(chain, () => bundle, new Date());

    const change = { spiffeId: web, status: 'suspended', reason: 'stolen' };
    await server.admin(IdentityService).setIdentityStatus(change, CALL);
    let told: Uint8Array | undefined;
    for await (const ders of watching.crls.values(signal)) {
      told = ders.find((der) => parseCrl(der).revoked.has(serial));
      if (told !== undefined) break;
    }
    const crl = parseCrl(told ?? Buffer.of());
    assert.equal(crl.revoked.get(serial)?.reason, CRL_REASON.privilegeWithdrawn);
    const [authority] = bundle.x509Authorities;
    assert.ok(authority && isCrlOf(crl, authority.certificate));

    const url = `http://${server.facts.crl}`;
    const { crls } = (await (await fetch(`${url}/crl`)).json()) as { crls: { path: string }[] };
    const served = Buffer.from(await (await fetch(`${url}${crls[0]?.path}`)).arrayBuffer());
    assert.ok(parseCrl(served).revoked.has(serial));
    if (hasProgram('openssl')) assert.match(await openssl(server, served), new RegExp(serial, 'i'));
  }).timeout(30_000);

  it('stays revoked when its identity is active again at once, and the workload gets another', async () => {
    await using server = await RunningServer.start();
    await using agent = await RunningAgent.start(server, 'spiffe://example.org/node');
    await server.createEntry(entryInit({ path: '/web', parent: '/node', selectors }));
    const { signal } = new AbortController();
    const spiffeId = 'spiffe://example.org/web';
    await using source = await X509Source.connect({ endpoint: `unix://${agent.socket}`, signal });
    const { serial } = source.svid.value;
    const identities = server.admin(IdentityService);
    for (const status of ['suspended', 'active'])
      await identities.setIdentityStatus({ spiffeId, status, reason: '' }, CALL);
    for await (const svid of source.svid.values(signal)) if (svid.serial !== serial) break;
    for await (const ders of source.crls.values(signal))
      if (ders.some((der) => parseCrl(der).revoked.has(serial))) break;
  }).timeout(30_000);
});

/** The list as openssl tells it once it has verified it. */
async function openssl(server: RunningServer, der: Uint8Array): Promise<string> {
  using dir = temporaryDir();
  const [list, ca] = [join(dir.path, 'list.crl'), join(dir.path, 'ca.pem')];
  writeFileSync(list, der);
  writeFileSync(ca, bundleToPem(await server.bundle()));
  const args = ['crl', '-inform', 'der', '-in', list, '-CAfile', ca, '-verify', '-noout', '-text'];
  return execFileSync('openssl', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}
