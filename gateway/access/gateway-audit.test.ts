import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../runtime/clock.ts';
import { createLogger } from '../../runtime/log.ts';
import { EventSpool } from './event-spool.ts';
import { GatewayAudit } from './gateway-audit.ts';

describe('GatewayAudit', () => {
  let directory: string;
  let spool: EventSpool;
  let audit: GatewayAudit;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'writ-audit-'));
    spool = EventSpool.open({ directory, clock: systemClock });
    const log = createLogger({ process: 'gateway', level: 'silent' });
    audit = new GatewayAudit(spool, { clock: systemClock, log });
  });
  afterEach(async () => {
    spool[Symbol.dispose]();
    await rm(directory, { recursive: true, force: true });
  });

  it('tells each reason of a client that is denied twice, and equal ones once', () => {
    const peer = { id: 'spiffe://example.org/web', serial: '7' };
    const request = { backend: '', grant: '', peer, address: '192.0.2.1:1' };
    for (const reason of ['no such user', 'no shell here', 'no shell here']) {
      audit.sessionDenied(request, reason);
    }
    const reasons = () => spool.after(0n, 10).map(({ reason }) => reason);
    assert.deepEqual(reasons(), ['no such user', 'no shell here']);
    audit.flush();
    assert.deepEqual(reasons(), ['no such user', 'no shell here', 'no shell here']);
  });

  it('tells of what a detector found once a minute, and of every column without its mask', () => {
    const session = {
      ...{ sessionId: 's_1', grant: 'g', backend: 'shop', spiffeId: 'spiffe://example.org/web' },
      ...{ serial: '7', agentId: 'a', entryId: 'e' },
    };
    for (const isUnmasked of [false, false, true, true]) {
      audit.found(session, { isUnmasked, name: 'email', count: 3n });
    }
    const events = spool.after(0n, 10).map(({ type, attributes }) => [type, { ...attributes }]);
    assert.deepEqual(events, [
      ['session.detected', { count: '1', detector: 'email', values: '3' }],
      ['session.unmasked', { column: 'email' }],
      ['session.unmasked', { column: 'email' }],
    ]);
  });
});
