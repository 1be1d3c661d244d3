import { SessionService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { systemClock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import { Transcript } from '../transcript.ts';
import type { VerbIo } from '../verb.ts';

const TRIES = 50;
const RETRY_MS = 100;

/** Ids of the identity's open sessions on the backend. */
export async function openSessions(
  spiffeId: string,
  backend: string,
  io: VerbIo,
): Promise<ReadonlySet<string>> {
  const { sessions } = await io
    .admin(SessionService)
    .listSessions({ openOnly: true, limit: 1000 }, { signal: io.signal });
  const mine = sessions.filter((one) => one.spiffeId === spiffeId && one.backend === backend);
  return new Set(mine.map(({ id }) => id));
}

/** The id of a session that was not among `before`: somebody else may be using the demo already. */
export async function newSession(
  before: ReadonlySet<string>,
  { spiffeId, backend, io }: { spiffeId: string; backend: string; io: VerbIo },
): Promise<string> {
  for (let tries = 0; ; tries += 1) {
    const now = await openSessions(spiffeId, backend, io);
    const found = [...now].find((id) => !before.has(id));
    if (found !== undefined) return found;
    if (tries === TRIES) throw new Fault('INTERNAL', "the sample's session is not listed");
    await systemClock.wait(RETRY_MS, io.signal);
  }
}

/** The transcript, once the gateway has sealed the record. */
export async function replay(sessionId: string, io: VerbIo): Promise<string[]> {
  for (let tries = 0; ; tries += 1) {
    const lines: string[] = [];
    const transcript = new Transcript();
    let state = '';
    const stream = io.admin(SessionService).replaySession({ sessionId }, { signal: io.signal });
    for await (const { message } of stream) {
      if (message.case === 'event') lines.push(...transcript.lines(message.value));
      if (message.case === 'verdict') state = message.value.state;
    }
    if (state === 'verified' || tries === TRIES)
      return [...lines, ...transcript.end(), `record ${state}`];
    await systemClock.wait(RETRY_MS, io.signal);
  }
}
