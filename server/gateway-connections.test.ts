import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { SpiffeId } from '../identity/spiffe-id.ts';
import type { SecureConnection } from '../identity/tls.ts';
import { systemClock } from '../runtime/clock.ts';
import { Fault } from '../runtime/fault.ts';
import { createLogger } from '../runtime/log.ts';
import { Watched } from '../runtime/watched.ts';
import { TD } from '../test/fixtures/registry-world.ts';
import { GatewayConnections } from './gateway-connections.ts';

describe('GatewayConnections', () => {
  const log = createLogger({ process: 'server', level: 'silent' });
  const connectionOf = (path: string) => {
    const ended: string[] = [];
    const events = new EventEmitter();
    const destroy = () => {
      ended.push(path);
      events.emit('close');
    };
    const socket = Object.assign(events, { destroy });
    const peer = { id: SpiffeId.parse(`spiffe://${TD}${path}`) };
    return { ended, connection: { peer, socket, address: '' } as unknown as SecureConnection };
  };

  it('cuts off, after a revocation, the gateways that cannot prove themselves again', async () => {
    const revocations = new Watched(0n);
    const barred = new Set<string>();
    await using gateways = new GatewayConnections({
      ...{ revocations, log, clock: { ...systemClock, wait: async () => undefined } },
      prove: async (peer) => {
        const id = peer.kind === 'remote' ? peer.connection.peer?.id.path : undefined;
        if (barred.has(id ?? '')) throw new Fault('PERMISSION_DENIED', 'suspended');
      },
    });
    const [a, b, agent] = [
      connectionOf('/writ/gateway/a'),
      connectionOf('/writ/gateway/b'),
      connectionOf('/spire/agent/x/y'),
    ];
    for (const { connection } of [a, b, agent]) gateways.add(connection);
    barred.add('/writ/gateway/a').add('/spire/agent/x/y');
    revocations.set(1n);
    await sleep(20);
    assert.deepEqual([a.ended.length, b.ended.length, agent.ended.length], [1, 0, 0]);
    gateways.disconnect(`spiffe://${TD}/writ/gateway/b`);
    assert.equal(b.ended.length, 1);
  });
});
