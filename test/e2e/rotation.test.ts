import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { agentConfigSchema } from '../../agent/config.ts';
import { runAgent } from '../../agent/main.ts';
import { splitX509Der } from '../../identity/bundle.ts';
import { verifySvid } from '../../identity/verify.ts';
import { isIssuedBy, parseCertificate } from '../../identity/x509/certificate.ts';
import { SpiffeWorkloadAPI, type X509SVID } from '../../proto/gen/spiffe/workload/workload_pb.ts';
import { LocalAuthority } from '../../proto/gen/spire/api/server/localauthority/v1/localauthority_pb.ts';
import { JoinTokenService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { RpcChannel, RpcError } from '../../runtime/grpc-client.ts';
import { createLogger } from '../../runtime/log.ts';
import { entryInit } from '../fixtures/registry-world.ts';
import { CALL, RunningServer, temporaryDir } from '../fixtures/running-server.ts';

/** One agent, and the messages that a workload of its node gets. */
class Node implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #dir = temporaryDir();
  #running: Promise<void> = Promise.resolve();
  #messages: AsyncIterator<X509SVID | undefined> | undefined;

  async start(server: RunningServer): Promise<void> {
    const alias = 'spiffe://example.org/node';
    const { joinString } = await server
      .admin(JoinTokenService)
      .createJoinToken({ ttlSeconds: 60, agentId: alias }, CALL);
    const selectors = [`unix:uid:${process.getuid?.()}`];
    await server.createEntry(entryInit({ path: '/web', parent: '/node', selectors }));
    writeFileSync(join(this.#dir.path, 'join'), joinString);
    const config = v.parse(agentConfigSchema, {
      trust_domain: 'example.org',
      state_dir: join(this.#dir.path, 'agent'),
      server: server.facts.address,
      join_string_file: join(this.#dir.path, 'join'),
      workload_api: join(this.#dir.path, 'api.sock'),
      health: '127.0.0.1:0',
      log: { level: 'info' },
    });
    const { signal } = this.#stop;
    await new Promise<void>((resolve, reject) => {
      const log = createLogger({ process: 'agent', level: 'silent' });
      this.#running = runAgent(config, { signal, log, onReady: () => resolve() });
      this.#running.catch(reject);
    });
    const channel = RpcChannel.unix(config.workload_api);
    signal.addEventListener('abort', () => void channel[Symbol.asyncDispose]());
    const options = { signal, metadata: { 'workload.spiffe.io': 'true' } };
    const stream = channel.client(SpiffeWorkloadAPI).fetchX509SVID({}, options);
    this.#messages = (async function* () {
      for await (const { svids } of stream) yield svids[0];
    })();
  }

  /** The next SVID that is as wanted. */
  async svid(isWanted: (svid: X509SVID) => boolean): Promise<X509SVID> {
    for (;;) {
      const next = await this.#messages?.next();
      assert.ok(next !== undefined && next.done !== true, 'the stream has ended');
      if (next.value !== undefined && isWanted(next.value)) return next.value;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
    this.#dir[Symbol.dispose]();
  }
}

const rootsOf = ({ bundle }: X509SVID) => splitX509Der(bundle).map(parseCertificate);

/** Hex subject key id of the root that has signed it. */
function signerOf(svid: X509SVID): string {
  const [leaf] = splitX509Der(svid.x509Svid).map(parseCertificate);
  const root = rootsOf(svid).find((one) => leaf !== undefined && isIssuedBy(leaf, one));
  return Buffer.from(root?.subjectKeyId ?? []).toString('hex');
}

describe('authorities under a running agent', function () {
  this.timeout(60_000);

  it('change hands by hand, in seconds and without locking the agent out', async () => {
    await using server = await RunningServer.start();
    await using node = new Node();
    await node.start(server);
    const local = server.admin(LocalAuthority);
    const first = await node.svid(() => true);
    const old = signerOf(first);

    const { preparedAuthority } = await local.prepareX509Authority({}, CALL);
    const authorityId = preparedAuthority?.authorityId ?? '';
    const both = await node.svid((svid) => rootsOf(svid).length === 2);
    assert.equal(signerOf(both), old);
    await local.activateX509Authority({ authorityId }, CALL);
    await local.taintX509Authority({ authorityId: old }, CALL);
    const state = await local.getX509AuthorityState({}, CALL);
    assert.deepEqual(
      [state.active?.authorityId, state.prepared, state.old?.authorityId],
      [authorityId, undefined, old],
    );
    const renewed = await node.svid((svid) => signerOf(svid) === authorityId);
    assert.equal(rootsOf(renewed).length, 2);

    // Too early it is refused, and loses nothing; soon the agent has renewed its own SVID.
    for (;;) {
      try {
        await local.revokeX509Authority({ authorityId: old }, CALL);
        break;
      } catch (error) {
        assert.ok(error instanceof RpcError && error.status === 'FAILED_PRECONDITION', `${error}`);
        assert.match(error.message, /1 agent holds/);
      }
    }
    const last = await node.svid((svid) => rootsOf(svid).length === 1);
    assert.equal(signerOf(last), authorityId);
    // It still is an agent: a new entry reaches its workloads.
    await server.createEntry(
      entryInit({
        path: '/first',
        parent: '/node',
        selectors: [`unix:uid:${process.getuid?.()}`],
      }),
    );
    const bundle = await server.bundle();
    const served = await node.svid(() => true);
    verifySvid(splitX509Der(served.x509Svid), () => bundle, new Date());
  });

  it('rotate by themselves while a workload and its peers verify all that lives', async () => {
    await using server = await RunningServer.start({
      config: { ca: { ttl: '10s' }, ttl: { x509_svid: '2s', agent_svid: '2s' } },
    });
    await using node = new Node();
    await node.start(server);
    const signers = new Set<string>();
    while (signers.size < 3) {
      const svid = await node.svid(() => true);
      signers.add(signerOf(svid));
      const bundle = await server.bundle();
      verifySvid(splitX509Der(svid.x509Svid), () => bundle, new Date());
    }
  });

  it('are followed by an agent although the server has lost its keys', async () => {
    using dir = temporaryDir();
    await using node = new Node();
    let port = 0;
    let old = '';
    {
      await using server = await RunningServer.start({ stateDir: dir.path });
      port = Number(server.facts.address.split(':').at(-1));
      await node.start(server);
      old = signerOf(await node.svid(() => true));
    }
    for (const name of await readdir(join(dir.path, 'keys')))
      if (name.startsWith('x509-')) rmSync(join(dir.path, 'keys', name));
    await using server = await RunningServer.start({
      ...{ stateDir: dir.path, config: { listen: `127.0.0.1:${port}` } },
    });
    const svid = await node.svid((one) => rootsOf(one).length === 2);
    assert.equal(signerOf(svid), old);
    const { active } = await server.admin(LocalAuthority).getX509AuthorityState({}, CALL);
    await server.admin(LocalAuthority).taintX509Authority({ authorityId: old }, CALL);
    await node.svid((one) => signerOf(one) === active?.authorityId);
    assert.notEqual(active?.authorityId, old);
  });
});
