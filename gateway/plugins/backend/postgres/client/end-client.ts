import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';

/** How long a client may take to read its last message. */
const LAST_WORDS_MS = 250;

/**
 * Says the last thing to a client and closes its connection. What it still sends is read and thrown
 * away: a socket closed over unread bytes is reset, and the client would lose the message.
 */
export async function endClient(socket: Duplex, lastWords: Uint8Array): Promise<void> {
  socket.on('error', () => undefined);
  const closed = new AbortController();
  socket.once('close', () => closed.abort());
  if (!socket.destroyed) {
    socket.end(lastWords);
    socket.resume();
    await sleep(LAST_WORDS_MS, undefined, { signal: closed.signal }).catch(() => undefined);
  }
  socket.destroy();
}
