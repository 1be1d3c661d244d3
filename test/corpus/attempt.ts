/** Attempts against a gateway, message by message, and all that their client hears. */
import {
  describePortalMessage,
  parseMessage,
  queryMessage,
  startupMessage,
} from '../../gateway/plugins/backend/postgres/wire/frontend-messages.ts';
import {
  cstring,
  int16,
  int32,
  message,
} from '../../gateway/plugins/backend/postgres/wire/message-body.ts';
import { errorOf, type WireClient, type WireMessage } from '../fixtures/wire-client.ts';

/** What is sent, one after the other, each answered before the next. */
export type Step =
  | { readonly kind: 'simple'; readonly sql: string | Buffer }
  | { readonly kind: 'extended'; readonly sql: string; readonly binary?: boolean }
  /** Prepared and described in a batch before the one that runs it, or never described. */
  | { readonly kind: 'prepared'; readonly sql: string; readonly described: boolean }
  /** Ends with a message that is answered by ReadyForQuery. */
  | { readonly kind: 'raw'; readonly bytes: Buffer };

export interface Attempt {
  readonly name: string;
  readonly startup: readonly (readonly [string, string])[];
  readonly steps: readonly Step[];
}

export interface Heard {
  /** Whether the session was opened. */
  readonly opened: boolean;
  /** Bodies of all messages. */
  readonly bytes: Buffer;
  readonly errors: readonly { readonly sqlstate: string; readonly message: string }[];
}

export const simple = (name: string, ...sql: readonly (string | Buffer)[]): Attempt => ({
  name,
  startup: [],
  steps: sql.map((text) => ({ kind: 'simple', sql: text })),
});

export const extended = (name: string, ...sql: readonly string[]): Attempt => ({
  name,
  startup: [],
  steps: sql.map((text) => ({ kind: 'extended', sql: text })),
});

export const started = (
  name: string,
  startup: Attempt['startup'],
  sql: string | Buffer,
): Attempt => ({ name, startup, steps: [{ kind: 'simple', sql }] });

/** @param client before its StartupMessage */
export async function runAttempt(
  client: WireClient,
  attempt: Attempt,
  { user = 'somebody', database = 'shop' } = {},
): Promise<Heard> {
  const heard: WireMessage[] = [];
  const errors: { sqlstate: string; message: string }[] = [];
  const send = async (...bytes: readonly Uint8Array[]) => {
    if (client.socket.destroyed) return false;
    client.send(...bytes);
    const answer = await answerOf(client);
    heard.push(...answer);
    const error = errorOf(answer);
    if (error !== undefined) errors.push(error);
    return answer.at(-1)?.type === 'Z';
  };
  const who = [
    ['user', user],
    ['database', database],
  ] as const;
  let isReady = await send(startupMessage([...who, ...attempt.startup]));
  const opened = isReady;
  for (const step of attempt.steps) {
    for (const batch of batchesOf(step)) isReady = isReady && (await send(...batch));
  }
  return { opened, bytes: Buffer.concat(heard.map(({ body }) => body)), errors };
}

/** Up to ReadyForQuery or the end. COPY from the client gets no data. */
async function answerOf(client: WireClient): Promise<WireMessage[]> {
  const answer: WireMessage[] = [];
  const signal = AbortSignal.timeout(10_000);
  for (;;) {
    const next = await client.next(signal);
    if (next === undefined) return answer;
    answer.push(next);
    if (next.type === 'Z') return answer;
    if (next.type === 'G') client.send(message('c'));
  }
}

const SYNC = message('S');

function batchesOf(step: Step): Uint8Array[][] {
  switch (step.kind) {
    case 'simple':
      return [[typeof step.sql === 'string' ? queryMessage(step.sql) : rawQuery(step.sql)]];
    case 'extended':
      return [
        [
          parseMessage(step.sql),
          bindMessage('', step.binary === true),
          describePortalMessage(''),
          executeMessage(),
          SYNC,
        ],
      ];
    case 'prepared':
      return [
        [parseMessage(step.sql, 'p'), ...(step.described ? [describeStatement('p')] : []), SYNC],
        [bindMessage('p', false), executeMessage(), SYNC],
      ];
    case 'raw':
      return [[step.bytes]];
  }
}

function rawQuery(text: Buffer): Buffer {
  return message('Q', text, Buffer.alloc(1));
}

function bindMessage(statement: string, binary: boolean): Buffer {
  const formats = binary ? [int16(1), int16(1)] : [int16(0)];
  return message('B', cstring(''), cstring(statement), int16(0), int16(0), ...formats);
}

function describeStatement(name: string): Buffer {
  return message('D', Buffer.from('S'), cstring(name));
}

function executeMessage(): Buffer {
  return message('E', cstring(''), int32(0));
}
