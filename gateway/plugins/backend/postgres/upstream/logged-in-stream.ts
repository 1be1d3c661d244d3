import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import {
  authenticationOk,
  backendKeyData,
  parameterStatus,
  readyForQuery,
} from '../wire/backend-messages.ts';
import type { BackendConnection } from './login.ts';

/**
 * A connection that is logged in, as the `pg` driver takes a server: one that lets it in at once. So
 * the driver has no password to give away, whatever a server asks it for.
 */
export class LoggedInStream extends Duplex {
  readonly #socket: Socket;
  readonly #greeting: Buffer;
  #isGreeted = false;

  constructor({ socket, parameters, key }: BackendConnection) {
    super();
    this.#socket = socket;
    this.#greeting = Buffer.concat([
      authenticationOk(),
      ...parameters.map(([name, value]) => parameterStatus(name, value)),
      backendKeyData(key.processId, key.secret),
      readyForQuery('I'),
    ]);
    socket.on('error', (error) => this.destroy(error));
    socket.on('close', () => this.destroy());
    socket.on('end', () => this.push(null));
  }

  /** What the driver calls of a socket; there is nothing left to connect to. */
  connect(): this {
    process.nextTick(() => this.emit('connect'));
    return this;
  }

  setNoDelay(): this {
    return this;
  }

  setKeepAlive(isOn: boolean, delayMs: number): this {
    this.#socket.setKeepAlive(isOn, delayMs);
    return this;
  }

  ref(): this {
    this.#socket.ref();
    return this;
  }

  unref(): this {
    this.#socket.unref();
    return this;
  }

  override _read(): void {
    if (this.#isGreeted) this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    if (this.#isGreeted) {
      this.#socket.write(chunk, done);
      return;
    }
    // The driver's StartupMessage, alone in its chunk: the backend has had one.
    if (chunk.length !== chunk.readInt32BE(0)) {
      done(new Error('the driver sent something else than its StartupMessage'));
      return;
    }
    this.#isGreeted = true;
    this.#socket.on('data', (bytes: Buffer) => {
      if (!this.push(bytes)) this.#socket.pause();
    });
    this.push(this.#greeting);
    done();
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#socket.end(() => done());
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }
}
