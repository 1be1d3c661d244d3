import { timestampDate } from '@bufbuild/protobuf/wkt';
import { SessionService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { systemClock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import { Transcript } from '../transcript.ts';
import type { VerbIo } from '../verb.ts';

const TRIES = 50;
const RETRY_MS = 100;

/** Id of the identity's newest open session on the backend. */
export async function newestSession(
  spiffeId: string,
  backend: string,
  io: VerbIo,
): Promise<string> {
  for (let tries = 0; ; tries += 1) {
    const { sessions } = await io
      .admin(SessionService)
      .listSessions({ openOnly: true, limit: 50 }, { signal: io.signal });
    const [newest] = sessions
      .filter((session) => session.spiffeId === spiffeId && session.backend === backend)
      .sort((a, b) => openedMs(b.openedAt) - openedMs(a.openedAt));
    if (newest !== undefined) return newest.id;
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

function openedMs(at: Parameters<typeof timestampDate>[0] | undefined): number {
  return at === undefined ? 0 : timestampDate(at).getTime();
}
