import assert from 'node:assert/strict';
import { parseTrustDomain, SpiffeId } from '../../identity/spiffe-id.ts';
import { createLogger } from '../../runtime/log.ts';
import { Watched } from '../../runtime/watched.ts';
import { FakeAuthority } from '../../test/fakes/fake-authority.ts';
import { FakeClock } from '../../test/fakes/fake-clock.ts';
import type { ServerLink } from '../server-link.ts';
import type { AgentState } from './agent-state.ts';
import { keepRenewed } from './agent-svid.ts';

const TD = parseTrustDomain('example.org');
const TTL_MS = 1_200_000;

describe('keepRenewed', () => {
  let clock: FakeClock;
  let calls: number;
  let stop: AbortController;
  let running: Promise<void>;
  beforeEach(async () => {
    calls = 0;
    stop = new AbortController();
    const authority = await FakeAuthority.create(TD);
    const id = SpiffeId.parse(`spiffe://${TD}/spire/agent/join_token/a`);
    const svid = await authority.issue(id, { ttlMs: TTL_MS });
    clock = new FakeClock(svid.notBefore);
    const link: Pick<ServerLink, 'call'> = {
      async call() {
        calls += 1;
        throw new Error('away');
      },
    };
    running = keepRenewed(
      {
        svid: new Watched(svid),
        bundle: authority.bundle,
        link: link as ServerLink,
        state: {} as AgentState,
        clock,
        log: createLogger({ process: 'agent', level: 'silent' }),
        reattest: undefined,
      },
      stop.signal,
    );
    running.catch(() => undefined);
  });
  afterEach(async () => {
    stop.abort(new Error('the test is over'));
    await running.catch(() => undefined);
  });

  it('asks at half the life of the SVID, and not before', async () => {
    await clock.advance(0.4 * TTL_MS);
    assert.equal(calls, 0);
    await clock.advance(0.17 * TTL_MS);
    assert.ok(calls > 0);
  });

  it('is not put off by a clock that is set back, which would outlive the SVID', async () => {
    clock.jump(-3_600_000);
    await clock.advance(0.57 * TTL_MS);
    assert.ok(calls > 0);
  });

  it('ends once the SVID has expired and the node cannot be proved again', async () => {
    await clock.advance(1.1 * TTL_MS);
    await running;
  });
});
