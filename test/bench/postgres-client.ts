/** A PostgreSQL client that costs next to nothing: it sends one Query and counts what comes. */
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import {
  queryMessage,
  sslRequest,
  startupMessage,
} from '../../gateway/plugins/backend/postgres/wire/frontend-messages.ts';
import { type ClientFiles, type Target, USER } from './postgres-world.ts';

/** The end of every answer: ReadyForQuery outside of a transaction. */
const READY = Buffer.from('5a0000000549', 'hex');
const S = 0x53;

export class CountingClient implements Disposable {
  readonly socket: TLSSocket;

  private constructor(socket: TLSSocket) {
    this.socket = socket;
    socket.on('error', () => undefined);
  }

  /** Logged in. */
  static async open(target: Target, files: ClientFiles): Promise<CountingClient> {
    const [cert, key, ca] = await Promise.all(
      [files.cert, files.key, files.ca].map((file) => readFile(file)),
    );
    const raw = connect({ host: '127.0.0.1', port: target.port, noDelay: true });
    await once(raw, 'connect');
    raw.write(sslRequest());
    const [answer] = await once(raw, 'data');
    if (answer[0] !== S) throw new Error(`${target.name} refuses TLS`);
    const socket = connectTls({ socket: raw, cert, key, ca, servername: 'localhost' });
    await once(socket, 'secureConnect');
    const client = new CountingClient(socket);
    const ready = client.#untilReady();
    socket.write(
      startupMessage([
        ['user', target.user],
        ['database', USER],
      ]),
    );
    await ready;
    return client;
  }

  /** Bytes of the answer. */
  async query(sql: string): Promise<number> {
    const ready = this.#untilReady();
    this.socket.write(queryMessage(sql));
    return await ready;
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }

  #untilReady(): Promise<number> {
    const { socket } = this;
    let bytes = 0;
    let tail: Buffer = Buffer.alloc(0);
    return new Promise((resolve, reject) => {
      const onClose = () => reject(new Error('the connection was closed'));
      const onData = (chunk: Buffer) => {
        bytes += chunk.length;
        tail = chunk.length >= READY.length ? chunk : Buffer.concat([tail, chunk]);
        if (!tail.subarray(-READY.length).equals(READY)) return;
        socket.removeListener('data', onData);
        socket.removeListener('close', onClose);
        resolve(bytes);
      };
      socket.on('data', onData);
      socket.once('close', onClose);
    });
  }
}
