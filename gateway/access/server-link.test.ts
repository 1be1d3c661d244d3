import assert from 'node:assert/strict';
import { GatewayService } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import { systemClock } from '../../runtime/clock.ts';
import { RpcServer } from '../../runtime/grpc-server.ts';
import { createLogger } from '../../runtime/log.ts';
import { Watched } from '../../runtime/watched.ts';
import { bundleOf, Harness, ids, root, svidOf } from '../../test/fixtures/svid-server.ts';
import { ServerLink } from './server-link.ts';

const SERVER = 'spiffe://example.org/spire/server';
const never = new AbortController().signal;

describe('ServerLink', () => {
  let rpc: RpcServer<string, string>;
  let harness: Harness;
  let asked: () => void;
  let answer: (sessionId: string) => void;
  let arrived: Promise<void>;

  beforeEach(async () => {
    arrived = new Promise((resolve) => {
      asked = resolve;
    });
    const answered = new Promise<string>((resolve) => {
      answer = resolve;
    });
    const log = createLogger({ process: 'gateway', level: 'silent' });
    rpc = new RpcServer({ guard: ({ peer }) => peer, log, onSilentEnd: () => undefined });
    rpc.add(GatewayService, {
      connect: async function* () {},
      openSession: async () => {
        asked();
        return { sessionId: await answered };
      },
      closeSession: async () => ({}),
      signSshCertificate: async () => ({}),
      signSshHostCertificate: async () => ({}),
    });
    harness = await Harness.start({
      svid: new Watched(svidOf(SERVER)),
      alpn: ['h2'],
      onConnection: ({ socket }) => rpc.inject(socket, 'gateway'),
    });
  });
  afterEach(async () => {
    await rpc[Symbol.asyncDispose]();
    await harness[Symbol.asyncDispose]();
  });

  it('lets a call that is under way end when the SVID is replaced', async () => {
    const svid = new Watched(svidOf(ids.web));
    const bundle = new Watched(bundleOf(root));
    const address = `127.0.0.1:${harness.port}`;
    await using link = new ServerLink({ address, svid, bundle, clock: systemClock });
    const following = new AbortController();
    let replaced = 0;
    const followed = link.follow(following.signal, () => {
      replaced += 1;
    });
    const opening = link.api.openSession({ backend: 'shop' }, { signal: never });
    await arrived;
    const before = link.api;
    svid.set(svidOf(ids.web));
    while (replaced === 0) await systemClock.wait(5, never);
    assert.notEqual(link.api, before);
    answer('s_1');
    assert.equal((await opening).sessionId, 's_1');
    following.abort();
    await followed.catch(() => undefined);
  });
});
