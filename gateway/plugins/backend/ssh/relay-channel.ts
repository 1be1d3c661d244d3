/**
 * Moves one channel's bytes between client and target: what the target writes is recorded, then
 * forwarded; what the client sends is counted. Who cannot write is not read for.
 */
import type { Readable, Writable } from 'node:stream';
import type { SessionCounts } from '../../../session/session-desk.ts';
import type { ChannelRecord } from './channel-record.ts';
import type { ClientChannel } from './ssh2-client.ts';
import type { ServerChannel } from './ssh2-server.ts';
import type { ExitStatus } from './ssh2-session-values.ts';

export interface RelayOptions {
  readonly client: Pick<ServerChannel, 'input' | 'output' | 'errors'>;
  readonly target: Pick<ClientChannel, 'input' | 'output' | 'errors' | 'exit'>;
  readonly record: Pick<ChannelRecord, 'sent' | 'received'>;
  readonly counts: Pick<SessionCounts, 'bytesUp' | 'bytesDown'>;
}

/** A relay under way. */
export interface ChannelRelay {
  /**
   * Resolves with the target's last word once all that it wrote is handed to the client's channel.
   * Rejects if that cannot be recorded.
   */
  readonly finished: Promise<ExitStatus>;
  /** Forwards nothing more in either direction; what the target still writes is thrown away. */
  stop(): void;
}

export function relayChannel({ client, target, record, counts }: RelayOptions): ChannelRelay {
  const stopping = new AbortController();
  const { signal } = stopping;
  for (const side of [client, target]) {
    // The channels' own ends tell of every failure; without a listener an error would end the process.
    for (const stream of [side.input, side.output, side.errors])
      stream.on('error', () => undefined);
  }
  const down = (source: Readable, sink: Writable, isStderr: boolean) =>
    pump(source, sink, {
      signal,
      take: (chunk) => {
        record.received(chunk, isStderr);
        counts.bytesDown += chunk.length;
      },
    });
  const up = pump(client.input, target.input, {
    signal,
    take: (chunk) => {
      record.sent(chunk.length);
      counts.bytesUp += chunk.length;
    },
  });
  void up.then((end) => {
    if (end === 'ended') target.input.end();
  });
  const output = down(target.output, client.output, false);
  const errors = down(target.errors, client.errors, true);
  return {
    finished: Promise.all([target.exit, output, errors]).then(([status]) => status),
    stop: () => stopping.abort(),
  };
}

interface PumpOptions {
  /** Its abort stops the flow: the source is drained into nothing. */
  readonly signal: AbortSignal;
  /** Called before a chunk is written. @throws to stop all */
  take(chunk: Buffer): void;
}

/** Resolves when the source has ended, forwarded or drained; rejects when `take` throws. */
function pump(
  source: Readable,
  sink: Writable,
  { signal, take }: PumpOptions,
): Promise<'ended' | 'closed'> {
  return new Promise((resolve, reject) => {
    const resume = () => source.resume();
    const onData = (chunk: Buffer) => {
      try {
        take(chunk);
      } catch (error) {
        stop();
        reject(error);
        return;
      }
      if (sink.writable && !sink.write(chunk)) source.pause();
    };
    const stop = () => {
      source.off('data', onData);
      sink.off('drain', resume);
      signal.removeEventListener('abort', stop);
      source.resume();
    };
    source.on('data', onData);
    source.once('end', () => resolve('ended'));
    source.once('close', () => resolve('closed'));
    sink.on('drain', resume);
    signal.addEventListener('abort', stop);
    if (signal.aborted) stop();
  });
}
