import assert from 'node:assert/strict';
import { parseTrustDomain } from '../../../identity/spiffe-id.ts';
import { systemClock } from '../../../runtime/clock.ts';
import { type JoinToken, joinTokenAttestor } from './join-token.ts';

const NOW = new Date('2026-01-01T00:00:00Z');

describe('joinTokenAttestor', () => {
  const attestWith = (stored: JoinToken | undefined) => {
    let left = stored;
    const attestor = joinTokenAttestor({
      trustDomain: parseTrustDomain('example.org'),
      clock: { ...systemClock, now: () => NOW },
      tokens: {
        take: async () => {
          const taken = left;
          left = undefined;
          return taken;
        },
      },
    });
    const exchange = {
      signal: AbortSignal.timeout(1000),
      challenge: () => assert.fail('no challenge is due'),
    };
    return () => attestor.attest(Buffer.from('secret'), exchange);
  };

  it('names the agent after the handle, never after the token', async () => {
    const node = await attestWith({ handle: 'jt-7', expiresAt: new Date(+NOW + 1) })();
    assert.equal(String(node.agentId), 'spiffe://example.org/spire/agent/join_token/jt-7');
    assert.equal(node.canReattest, false);
  });

  it('spends a token once when two agents race with it', async () => {
    const attest = attestWith({ handle: 'jt-7', expiresAt: new Date(+NOW + 1) });
    const [first, second] = await Promise.allSettled([attest(), attest()]);
    assert.deepEqual([first.status, second.status], ['fulfilled', 'rejected']);
  });

  it('refuses a token at the instant it expires, in the words it has for an unknown one', async () => {
    const refused = {
      code: 'JOIN_TOKEN_INVALID',
      message:
        'failed to attest: join token does not exist or has already been used, or it has expired',
    };
    await assert.rejects(attestWith({ handle: 'jt-7', expiresAt: NOW }), refused);
    await assert.rejects(attestWith(undefined), refused);
  });
});
