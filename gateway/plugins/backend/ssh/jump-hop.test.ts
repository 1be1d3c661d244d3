import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { create } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { SpiffeId } from '../../../../identity/spiffe-id.ts';
import { SnapshotSchema } from '../../../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import { Fault } from '../../../../runtime/fault.ts';
import { FakeClock } from '../../../../test/fakes/fake-clock.ts';
import { readSnapshot } from '../../../access/snapshot.ts';
import { JumpHop } from './jump-hop.ts';

const WEB = 'spiffe://example.org/web';
const MINUTE_MS = 60_000;

describe('JumpHop', () => {
  let clock: FakeClock;
  let hop: JumpHop;
  let denied: string[];
  let served: { backend: string; end(): void }[];
  let words: string[];
  let isOver: boolean;
  let stop: AbortController;
  let leave: () => void;
  beforeEach(() => {
    clock = new FakeClock();
    [denied, served, words, isOver] = [[], [], [], false];
    stop = new AbortController();
    const now = clock.now().getTime();
    const ssh = (name: string, port: number) => ({
      name,
      type: { case: 'ssh' as const, value: { host: '192.0.2.1', port } },
    });
    const granted = (backend: string, identity = WEB) => ({
      ...{ name: `${backend}-${identity.length}`, backend, identity },
      expiresAt: timestampFromDate(new Date(now + (backend === 'late-1' ? -1 : MINUTE_MS * 60))),
      rights: { case: 'ssh' as const, value: { logins: ['deploy'], shell: true } },
    });
    const snapshot = readSnapshot(
      create(SnapshotSchema, {
        backends: [
          ssh('web-1', 2222),
          ssh('late-1', 22),
          ssh('not-mine', 22),
          { name: 'orders-db' },
        ],
        grants: [
          ...[granted('web-1'), granted('late-1'), granted('gone-1'), granted('orders-db')],
          granted('not-mine', 'spiffe://example.org/other'),
        ],
      }),
    );
    hop = new JumpHop({
      peer: {
        id: SpiffeId.parse(WEB),
        serial: '1',
        notAfter: new Date(now + 5 * MINUTE_MS),
        proof: { case: 'x509', chain: [] },
      },
      ...{ snapshot: { value: snapshot }, clock, signal: stop.signal },
      denied: (_, reason) => denied.push(reason),
      certificateOf: async (backend) => Buffer.from(backend),
      serve: (_, backend) =>
        new Promise((end) => {
          served.push({ backend, end });
        }),
    });
  });

  function run(): void {
    const closed = new Promise<void>((resolve) => {
      leave = resolve;
    });
    const client = {
      closed,
      authenticated: Promise.resolve(),
      end(reason: string) {
        words.push(reason);
        leave();
      },
      destroy: () => leave(),
    };
    void hop.run(client).then(() => {
      isOver = true;
    });
  }
  const open = async (host: string, port = 22) =>
    (await hop.directTcpip({ host, port }))(new PassThrough());
  const refuses = (host: string, port = 22) =>
    assert.rejects(open(host, port), { code: 'PERMISSION_DENIED' });
  const settled = () => new Promise((resolve) => setImmediate(resolve));

  it('leads to a backend of a live grant, by ssh’s port or its own', async () => {
    await open('web-1');
    await open('web-1', 2222);
    assert.deepEqual(
      served.map(({ backend }) => backend),
      ['web-1', 'web-1'],
    );
    assert.deepEqual(denied, []);
  });

  for (const [what, host, port] of [
    ['an address', '192.0.2.1', 22],
    ['another port of a backend', 'web-1', 80],
    ['a backend of an expired grant', 'late-1', 22],
    ['a backend of somebody else’s grant', 'not-mine', 22],
    ['a backend that is gone', 'gone-1', 22],
    ['a backend of another kind', 'orders-db', 22],
    ['a name that an object has', 'constructor', 22],
    ['nothing', '', 22],
  ] as const) {
    it(`leads to no ${what}, and tells who asked and the audit log the same of all`, async () => {
      const message = `${WEB} holds no grant on ${JSON.stringify(host)}, port ${port}`;
      await assert.rejects(open(host, port), new Fault('PERMISSION_DENIED', message));
      assert.deepEqual([denied, served.length], [[message], 0]);
    });
  }

  it('has no session, says what to do instead, and tells the audit log', async () => {
    await assert.rejects(hop.session(), { code: 'PERMISSION_DENIED', message: /ProxyJump/ });
    assert.deepEqual(denied, ['here is no shell and no command']);
  });

  it('ends when no channel came within 20 s', async () => {
    run();
    await clock.advance(19_900);
    assert.deepEqual(words, []);
    await clock.advance(200);
    assert.deepEqual(words, ['writ: no connection to a backend within 20 s']);
  });

  it('ends after its last channel, unless another one comes', async () => {
    run();
    await open('web-1');
    await open('web-1');
    served[0]?.end();
    await clock.advance(30_000);
    served[1]?.end();
    await clock.advance(1_500);
    await open('web-1');
    await clock.advance(30_000);
    assert.deepEqual(words, []);
    served[2]?.end();
    await clock.advance(2_100);
    assert.deepEqual(words, ['writ: the last connection has ended']);
    await settled();
    assert.equal(isOver, true);
  });

  it('ends with its certificate, once its sessions could tell it', async () => {
    run();
    await open('web-1');
    await clock.advance(5 * MINUTE_MS);
    await refuses('web-1');
    assert.deepEqual(words, []);
    served[0]?.end();
    await clock.advance(1_100);
    assert.deepEqual(words, ['writ: the certificate has expired']);
  });

  it('ends with the gateway, and gives its sessions time to tell it', async () => {
    run();
    await open('web-1');
    stop.abort();
    await settled();
    assert.deepEqual(words, []);
    served[0]?.end();
    await settled();
    assert.deepEqual(words, ['writ: the gateway is stopping']);
    await refuses('web-1');
  });

  it('ends with the gateway even if a session does not', async () => {
    run();
    await open('web-1');
    stop.abort();
    await clock.advance(600);
    assert.deepEqual(words, ['writ: the gateway is stopping']);
    assert.equal(isOver, false, 'its session is waited for');
    served[0]?.end();
    await settled();
    assert.equal(isOver, true);
  });

  it('ends with its client, and waits for its sessions', async () => {
    run();
    await open('web-1');
    leave();
    await clock.advance(600);
    assert.equal(isOver, false);
    served[0]?.end();
    await settled();
    assert.equal(isOver, true);
  });
});
