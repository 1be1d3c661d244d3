/** Our agent, which proves its node by a certificate, at our server. */
import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { chmodSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bundleToPem } from '../../identity/bundle.ts';
import { encodePem } from '../../identity/x509/pem.ts';
import { SpiffeWorkloadAPI } from '../../proto/gen/spiffe/workload/workload_pb.ts';
import { Agent } from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { systemClock } from '../../runtime/clock.ts';
import { RpcChannel } from '../../runtime/grpc-client.ts';
import { createLogger } from '../../runtime/log.ts';
import { METADATA } from '../../sdk/workload-api-client.ts';
import { X509Source } from '../../sdk/x509-source.ts';
import { handMadeCa, handMadeCertificate, newKey } from '../fixtures/hand-made-certificate.ts';
import { entryInit, TD } from '../fixtures/registry-world.ts';
import { RunningAgent } from '../fixtures/running-agent.ts';
import { CALL, RunningServer, temporaryDir, until } from '../fixtures/running-server.ts';

const AGENT = '/spire/agent/x509pop/node-1';

describe('An agent with x509pop', function () {
  this.timeout(30_000);
  const root = handMadeCa({ name: 'Nodes' });
  const between = handMadeCa({ name: 'Between', issuer: root });
  let dir: ReturnType<typeof temporaryDir>;
  let server: RunningServer;
  let written: string[];
  const lines = () => written.map((line) => JSON.parse(line) as Record<string, unknown>);
  const write = (line: string) => void written.push(line);
  beforeEach(() => {
    written = [];
  });
  const file = (name: string, text: string) => {
    const path = join(dir.path, name);
    rmSync(path, { force: true });
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  };
  before(async () => {
    dir = temporaryDir();
    const x509pop = {
      ca_bundle_files: [file('nodes.pem', encodePem('CERTIFICATE', root.der))],
      agent_path_template: '/{{ .PluginName }}/{{ .Subject.CommonName }}',
    };
    written = [];
    server = await RunningServer.start({
      log: createLogger({ process: 'server', level: 'info' }, { write }),
      config: {
        node_attestors: { x509pop },
        rate_limits: { attestation: false },
        ttl: { agent_svid: '4s' },
      },
    });
    await server.createEntry(
      entryInit({
        ...{ path: '/rack', parent: '/spire/server' },
        selectors: [`x509pop:subject:cn:node-1`],
      }),
    );
    await server.createEntry(
      entryInit({ parent: '/rack', selectors: [`unix:uid:${process.getuid?.()}`] }),
    );
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  const nodeFiles = (key: KeyObject = newKey()) => {
    const leaf = handMadeCertificate({ name: 'node-1', uris: [], issuer: between, key });
    const chain = [leaf, between].map(({ der }) => encodePem('CERTIFICATE', der)).join('');
    const pkcs8 = key.export({ type: 'pkcs8', format: 'pem' }).toString();
    return { certificate_file: file('node.pem', chain), private_key_file: file('node.key', pkcs8) };
  };
  const bundleFile = async () => file('bundle.pem', bundleToPem(await server.bundle()));
  const start = async (more: object = {}, key?: KeyObject) =>
    RunningAgent.startWith(
      server,
      {
        node_attestor: { x509pop: nodeFiles(key) },
        trust_bundle_file: await bundleFile(),
        ...more,
      },
      createLogger({ process: 'agent', level: 'info' }, { write }),
    );
  const source = ({ socket }: RunningAgent) =>
    X509Source.connect({ endpoint: `unix://${socket}`, signal: AbortSignal.timeout(10_000) });
  const attestations = async () =>
    (await server.events()).filter(({ type }) => type === 'agent.attested').length;
  const operator = () => server.admin(Agent);
  const id = { trustDomain: TD, path: AGENT };

  for (const [what, key] of [
    ['P-256', newKey()],
    ['RSA', generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey],
  ] as const)
    it(`attests by its ${what} certificate and serves the entries of its selectors`, async () => {
      await using agent = await start({}, key);
      await using workload = await source(agent);
      assert.equal(workload.svid.value.id.path, '/web');
      assert.equal((await operator().getAgent({ id }, CALL)).canReattest, true);
    });

  it('attests anew in time without a pause for its workloads, and no copy of it is suspected', async () => {
    const before = await attestations();
    await using agent = await start();
    const stream = new AbortController();
    const channel = RpcChannel.unix(agent.socket);
    const ended = (async () => {
      const options = { signal: stream.signal, metadata: METADATA };
      for await (const _ of channel.client(SpiffeWorkloadAPI).fetchX509SVID({}, options));
    })().catch(() => 'ended');
    for (const count of [2, 3]) await until(async () => (await attestations()) >= before + count);
    const first = await Promise.race([ended, systemClock.wait(50, CALL.signal)]);
    assert.equal(first, undefined, 'the stream goes on');
    stream.abort();
    await ended;
    await channel[Symbol.asyncDispose]();
    assert.deepEqual(
      lines().filter(({ msg }) => String(msg).includes('superseded')),
      [],
    );
    assert.equal(lines().filter(({ msg }) => msg === 'agent ready').length, 1);
  });

  it('comes back after an eviction by itself, and not after a ban', async () => {
    await using agent = await start();
    await using workload = await source(agent);
    const before = await attestations();
    await operator().deleteAgent({ id }, CALL);
    await until(async () => (await attestations()) > before);
    await using again = await source(agent);
    assert.equal(String(again.svid.value.id), String(workload.svid.value.id));
    await operator().banAgent({ id }, CALL);
    await assert.rejects(agent.ended, /it is banned|agent is banned/);
    await assert.rejects(start(), /agent is banned/);
    await operator().deleteAgent({ id }, CALL);
    await using _back = await start();
  });

  describe('at first contact', () => {
    it('wants the roots of the trust domain', async () => {
      await assert.rejects(start({ trust_bundle_file: undefined }), {
        code: 'CONFIG_INVALID',
        message: /^trust_bundle_file is missing/,
      });
    });

    it('takes whoever answers only with insecure_bootstrap, warns, and does so once', async () => {
      const insecure = { trust_bundle_file: undefined, insecure_bootstrap: true };
      await using _agent = await start(insecure);
      const warnings = () => lines().filter(({ msg }) => /^insecure_bootstrap/.test(String(msg)));
      assert.equal(warnings().length, 1);
      const before = await attestations();
      await operator().deleteAgent({ id }, CALL);
      await until(async () => (await attestations()) > before);
      assert.equal(warnings().length, 1);
    });
  });

  it('says which file is not what it must be, and shows no key', async () => {
    const pkcs8 = () => newKey().export({ type: 'pkcs8', format: 'pem' }).toString();
    const [open, other] = [file('open.key', pkcs8()), file('other.key', pkcs8())];
    const certificate = file('shown.pem', encodePem('CERTIFICATE', root.der));
    chmodSync(open, 0o644);
    for (const [private_key_file, certificate_file, message] of [
      [open, certificate, /can be read by others: its mode must be 0600/],
      [other, certificate, /is not the key of/],
      [other, other, /holds no certificates/],
      [certificate, certificate, /holds no private key/],
      [join(dir.path, 'none'), certificate, /cannot be read/],
    ] as const)
      await assert.rejects(
        start({ node_attestor: { x509pop: { private_key_file, certificate_file } } }),
        { code: 'CONFIG_INVALID', message },
      );
  });
});
