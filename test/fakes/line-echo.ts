import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { ClientConnection, TlsProtocol } from '../../gateway/plugins/backend/backend.ts';
import { type SessionDesk, svidPeer } from '../../gateway/session/session-desk.ts';
import { Fault } from '../../runtime/fault.ts';

/**
 * The smallest protocol there is: the first line names `backend grant`, each further one is recorded and
 * comes back. Answers: `open ID`, `refused CODE MESSAGE`, `end MESSAGE`. `leave` makes it go in silence,
 * `hang` makes it deaf to the end of its session.
 */
export function lineEcho(): Pick<TlsProtocol, 'type' | 'serve'> {
  return { type: 'echo', serve };
}

async function serve(
  { socket, peer, address }: ClientConnection,
  desk: SessionDesk,
  signal: AbortSignal,
): Promise<void> {
  const reader = createInterface({ input: socket });
  let isHanging = false;
  socket.once('close', () => {
    if (!isHanging) reader.close();
  });
  const lines = reader[Symbol.asyncIterator]();
  const [backend = '', grant = ''] = String((await lines.next()).value).split(' ');
  try {
    await using session = await desk.open({
      ...{ backend, grant, peer: svidPeer(peer), address },
      client: { application_name: 'echo', reason: 'a test' },
    });
    const tell = () => {
      if (!isHanging) socket.end(`end ${session.signal.reason.message}\n`);
    };
    session.signal.addEventListener('abort', tell);
    signal.addEventListener('abort', () => socket.destroy());
    socket.write(`open ${session.id}\n`);
    for (;;) {
      const { value: line, done } = await lines.next();
      if (done || line === 'leave') break;
      isHanging = line === 'hang';
      session.counts.statements += 1;
      const number = BigInt(session.counts.statements);
      session.recorder.write({ case: 'statement', value: { number, text: line, class: 'read' } });
      socket.write(`${line}\n`);
    }
  } catch (error) {
    const { code, message } = Fault.from(error);
    socket.end(`refused ${code} ${message}\n`);
  }
  if (!socket.destroyed && socket.writableEnded) await once(socket, 'close');
}
