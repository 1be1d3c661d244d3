import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { errorOf, WireClient } from '../../../../../test/fixtures/wire-client.ts';
import {
  cancelRequest,
  PROTOCOL_3_0,
  queryMessage,
  sslRequest,
  startupMessage,
} from '../wire/frontend-messages.ts';
import { int32 } from '../wire/message-body.ts';
import { readExactly } from '../wire/read-exactly.ts';
import { type CancelPacket, readFirstPacket, readPreface, readStartup } from './startup.ts';

const gssRequest = () => Buffer.concat([int32(8), int32(80_877_104)]);
const CLIENT_HELLO = Buffer.from('160301002f0100002b', 'hex');

/** Both ends of one TCP connection. */
async function socketPair(): Promise<{ client: Socket; accepted: Socket }> {
  const server = createServer({ pauseOnConnect: true });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const connection = once(server, 'connection');
  const client = connect(address.port, '127.0.0.1');
  client.on('error', () => undefined);
  const [accepted] = (await connection) as [Socket];
  accepted.on('error', () => undefined);
  server.close();
  return { client, accepted };
}

/** Sends `parts`, each after the answer to the one before, and tells what came of it. */
async function meet(...parts: readonly Buffer[]) {
  const { client, accepted } = await socketPair();
  const cancelled: CancelPacket[] = [];
  const controller = new AbortController();
  const preface = readPreface(accepted, {
    signal: controller.signal,
    async cancel(packet) {
      cancelled.push(packet);
    },
  }).catch((error: { code?: unknown; name: string }) =>
    typeof error.code === 'string' ? error.code : error.name,
  );
  const answers: string[] = [];
  for (const part of parts.slice(0, -1)) {
    client.write(part);
    answers.push(String(await readExactly(client, 1, AbortSignal.timeout(2000))));
  }
  client.write(parts.at(-1) ?? '');
  const timer = setTimeout(() => controller.abort(), 500);
  const result = await preface;
  clearTimeout(timer);
  const left: Buffer | null = accepted.read();
  accepted.destroy();
  const said: Buffer | null = await readExactly(client, 1, AbortSignal.timeout(2000)).then(
    (byte) => byte ?? null,
  );
  client.destroy();
  return { result, answers, cancelled, left, said: said === null ? '' : String(said) };
}

describe('readPreface', () => {
  it('answers S to an SSLRequest and leaves the connection to TLS', async () => {
    const { result, said, left } = await meet(sslRequest());
    assert.equal(result, 'tls');
    assert.equal(said, 'S');
    assert.equal(left, null);
  });

  it('takes no byte of a ClientHello that comes first', async () => {
    const { result, left } = await meet(CLIENT_HELLO);
    assert.equal(result, 'tls');
    assert.deepEqual(left, CLIENT_HELLO);
  });

  it('answers N to a GSSENCRequest once and then takes an SSLRequest', async () => {
    const { result, answers, said } = await meet(gssRequest(), sslRequest());
    assert.equal(result, 'tls');
    assert.deepEqual([...answers, said], ['N', 'S']);
  });

  it('refuses a second GSSENCRequest', async () => {
    assert.equal((await meet(gssRequest(), gssRequest())).result, 'PROTOCOL_VIOLATION');
  });

  it('G34 refuses bytes stuffed behind an SSLRequest or a GSSENCRequest', async () => {
    for (const request of [sslRequest(), gssRequest()]) {
      for (const stuffed of [queryMessage('select 1'), CLIENT_HELLO, Buffer.alloc(1)]) {
        const { result, said } = await meet(Buffer.concat([request, stuffed]));
        assert.equal(result, 'PROTOCOL_VIOLATION');
        assert.equal(said, '');
      }
    }
  });

  it('refuses direct TLS behind a GSSENCRequest', async () => {
    assert.equal((await meet(gssRequest(), CLIENT_HELLO)).result, 'PROTOCOL_VIOLATION');
  });

  it('refuses a length that is too short, too long or negative', async () => {
    for (const length of [0, 4, 7, 10_001, 0x7fffffff, -1]) {
      const packet = Buffer.concat([int32(length), int32(PROTOCOL_3_0), Buffer.alloc(64)]);
      assert.equal((await meet(packet)).result, 'PROTOCOL_VIOLATION', `length ${length}`);
    }
  });

  it('hands on a CancelRequest that comes in clear', async () => {
    const { result, cancelled } = await meet(cancelRequest(7, Buffer.from([1, 2, 3, 4])));
    assert.equal(result, 'done');
    assert.deepEqual(cancelled, [{ processId: 7, secret: Buffer.from([1, 2, 3, 4]) }]);
  });

  it('drops a CancelRequest whose key is not four bytes long', async () => {
    const { result, cancelled } = await meet(cancelRequest(7, Buffer.alloc(32)));
    assert.equal(result, 'done');
    assert.deepEqual(cancelled, []);
  });

  it('tells a client without TLS what it needs', async () => {
    const { client: socket, accepted } = await socketPair();
    using client = new WireClient(socket);
    client.send(startupMessage([['user', 'a']]));
    const signal = AbortSignal.timeout(2000);
    const preface = readPreface(accepted, { signal, cancel: async () => undefined });
    await assert.rejects(preface, { code: 'PROTOCOL_VIOLATION' });
    const error = errorOf(await client.rest());
    assert.equal(error?.severity, 'FATAL');
    assert.equal(error?.sqlstate, '28000');
    assert.match(error?.message ?? '', /TLS with a client certificate/);
  });

  it('waits for a slow client until its signal aborts', async () => {
    assert.equal((await meet(sslRequest().subarray(0, 7))).result, 'AbortError');
  });
});

const startup = (pairs: readonly (readonly [string, string])[], code = PROTOCOL_3_0) => {
  const packet = startupMessage(pairs);
  return readStartup({ code, body: packet.subarray(8) });
};
const refusal = (pairs: readonly (readonly [string, string])[]) => {
  const result = startup([['user', 'u'], ...pairs]);
  return 'sqlstate' in result ? result.sqlstate : undefined;
};

describe('readStartup', () => {
  it('takes what common drivers send', () => {
    const result = startup([
      ['user', 'u'],
      ['database', 'orders-db'],
      ['client_encoding', "'utf-8'"],
      ['DateStyle', 'ISO'],
      ['TimeZone', 'Europe/Zurich'],
      ['extra_float_digits', '2'],
      ['application_name', 'report'],
      ['options', '-c geqo=off -c writ.reason=INC-7'],
    ]);
    assert.ok(!('sqlstate' in result));
    assert.equal(result.database, 'orders-db');
    assert.deepEqual(Object.fromEntries(result.settings), {
      geqo: 'off',
      datestyle: 'ISO',
      timezone: 'Europe/Zurich',
      extra_float_digits: '2',
      application_name: 'report',
    });
    assert.deepEqual(result.client, { user: 'u', application_name: 'report', reason: 'INC-7' });
    assert.equal(result.negotiate, undefined);
  });

  it('lets a field of its own win over options', () => {
    const result = startup([
      ['user', 'u'],
      ['timezone', 'UTC'],
      ['options', '-c timezone=CET'],
    ]);
    assert.ok(!('sqlstate' in result));
    assert.equal(result.settings.get('timezone'), 'UTC');
  });

  it('takes the user for the database if none is named', () => {
    const result = startup([['user', 'orders-db']]);
    assert.ok(!('sqlstate' in result));
    assert.equal(result.database, 'orders-db');
  });

  it('P11 refuses pinned settings, role and session_authorization, in options too', () => {
    for (const [name, value] of [
      ['role', 'postgres'],
      ['session_authorization', 'postgres'],
      ['Session_Authorization', 'postgres'],
      ['client_encoding', 'SJIS'],
      ['standard_conforming_strings', 'off'],
      ['backslash_quote', 'on'],
    ] as const) {
      assert.equal(refusal([[name, value]]), '42501', name);
      assert.equal(refusal([['options', `-c ${name}=${value}`]]), '42501', `options ${name}`);
      assert.equal(refusal([['options', `--${name}=${value}`]]), '42501', `options ${name}`);
    }
    assert.equal(refusal([['options', '--session-authorization=postgres']]), '42501');
  });

  it('refuses replication', () => {
    for (const value of ['true', 'database', '1', 'on']) {
      assert.equal(refusal([['replication', value]]), '42501', value);
    }
    assert.equal(refusal([['replication', 'false']]), undefined);
  });

  it('refuses a key that is given twice, however it is written', () => {
    assert.equal(refusal([['user', 'other']]), '08P01');
    assert.equal(
      refusal([
        ['DateStyle', 'ISO'],
        ['datestyle', 'SQL'],
      ]),
      '08P01',
    );
  });

  it('refuses what is not pairs of texts', () => {
    for (const body of [
      '',
      '\0\0',
      'user\0u\0',
      'user\0\0',
      'user\0u',
      'user\0u\0x\0\0',
      '\0u\0\0',
    ]) {
      const result = readStartup({ code: PROTOCOL_3_0, body: Buffer.from(body) });
      assert.ok('sqlstate' in result && ['08P01', '28000'].includes(result.sqlstate), body);
    }
    const notUtf8 = Buffer.from('757365720075ff0000', 'hex');
    const result = readStartup({ code: PROTOCOL_3_0, body: notUtf8 });
    assert.ok('sqlstate' in result && result.sqlstate === '08P01');
  });

  it('offers protocol 3.0 to who asks for more, and names the options that it does not know', () => {
    const newer = startup([['user', 'u']], PROTOCOL_3_0 + 2);
    assert.deepEqual('negotiate' in newer && newer.negotiate, { unknownOptions: [] });
    const option = startup([
      ['user', 'u'],
      ['_pq_.compression', 'on'],
    ]);
    assert.deepEqual('negotiate' in option && option.negotiate, {
      unknownOptions: ['_pq_.compression'],
    });
  });

  it('refuses another major version', () => {
    const result = startup([['user', 'u']], 2 << 16);
    assert.ok('sqlstate' in result && result.sqlstate === '0A000');
  });
});

describe('readFirstPacket', () => {
  it('leaves what comes behind the packet', async () => {
    const { client, accepted: socket } = await socketPair();
    client.write(Buffer.concat([startupMessage([['user', 'u']]), queryMessage('select 1')]));
    const packet = await readFirstPacket(socket, AbortSignal.timeout(2000));
    assert.equal(packet?.code, PROTOCOL_3_0);
    const rest = await readExactly(
      socket,
      queryMessage('select 1').length,
      AbortSignal.timeout(2000),
    );
    assert.deepEqual(rest, queryMessage('select 1'));
    client.destroy();
    socket.destroy();
  });
});
