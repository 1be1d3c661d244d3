import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

/** Below the ports that Linux gives to outgoing connections, one of which could take a stopped server's. */
const FIRST = 20_000;
const LAST = 31_999;

let next = randomInt(FIRST, LAST);

/** A port of 127.0.0.1 where nothing listens, and that stays a server's own while it is stopped. */
export async function ownPort(): Promise<number> {
  for (let tries = 0; tries < LAST - FIRST; tries += 1) {
    next = next === LAST ? FIRST : next + 1;
    if (await isFree(next)) return next;
  }
  throw new Error('no port is free');
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer()
      .once('error', () => resolve(false))
      .listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
}
