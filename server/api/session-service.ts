import type { SessionService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import type { RecordingReplay } from '../access/replay-recording.ts';
import type { Sessions } from '../access/sessions.ts';
import { actorOf, type Caller } from './callers.ts';

export interface SessionServiceOptions {
  readonly sessions: Sessions;
  readonly replay: RecordingReplay;
}

const DEFAULT_LIMIT = 100;
const MAXIMUM_LIMIT = 1000;
const REASON = /^[^\p{Cc}\p{Zl}\p{Zp}]{1,200}$/u;

/** Sessions and their records, for operators. */
export function sessionService({
  sessions,
  replay,
}: SessionServiceOptions): Implementation<typeof SessionService, Caller> {
  return {
    async listSessions({ openOnly, limit }) {
      const most = Math.min(limit === 0 ? DEFAULT_LIMIT : limit, MAXIMUM_LIMIT);
      return { sessions: await sessions.list({ openOnly, limit: most }) };
    },

    async getSession({ sessionId }) {
      return { session: await sessions.get(sessionId) };
    },

    async killSession({ sessionId, reason }, { caller }) {
      const told = reason === '' ? 'ended by an operator' : reason;
      if (!REASON.test(told)) {
        throw new Fault('INVALID_ARGUMENT', 'reason: write one line of at most 200 characters');
      }
      await sessions.kill(sessionId, told, actorOf(caller));
      return {};
    },

    async *replaySession({ sessionId }, { caller, signal }) {
      const events = replay.events(sessionId, actorOf(caller), signal);
      for (;;) {
        const next = await events.next();
        if (next.done === true) {
          yield { message: { case: 'verdict', value: next.value } };
          return;
        }
        yield { message: { case: 'event', value: next.value } };
      }
    },
  };
}
