import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { parse, serialize } from 'pg-protocol';
import {
  authenticationOk,
  backendKeyData,
  parameterStatus,
  readBackendKeyData,
  readCommandComplete,
  readErrorFields,
  readParameterStatus,
  readReadyForQuery,
  readyForQuery,
  rowsOfTag,
} from './backend-messages.ts';
import { errorResponse } from './errors.ts';
import {
  cancelRequest,
  parseMessage,
  queryMessage,
  readBind,
  readExecute,
  readParse,
  readQuery,
  readTarget,
  saslInitialResponse,
  saslResponse,
  sslRequest,
  startupMessage,
} from './frontend-messages.ts';
import { BodyReader, cstring, message } from './message-body.ts';

/** What pg-protocol, the oracle, reads in the bytes of a server. */
async function oracleReads(bytes: Buffer): Promise<Record<string, unknown>[]> {
  const messages: Record<string, unknown>[] = [];
  await parse(Readable.from([bytes]), (one) => {
    messages.push(Object.fromEntries(Object.entries(one)));
  });
  return messages;
}

/** The body of a whole message that pg-protocol wrote. */
function body(bytes: Buffer): BodyReader {
  assert.equal(bytes.readInt32BE(1), bytes.length - 1);
  return new BodyReader(bytes, 5, bytes.length);
}

describe('backend messages', () => {
  it('are what pg-protocol reads', async () => {
    const bytes = Buffer.concat([
      authenticationOk(),
      parameterStatus('client_encoding', 'UTF8'),
      backendKeyData(4711, Buffer.from('0a0b0c0d', 'hex')),
      readyForQuery('T'),
    ]);
    const [ok, parameter, key, ready] = await oracleReads(bytes);
    assert.equal(ok?.name, 'authenticationOk');
    assert.deepEqual(
      [parameter?.parameterName, parameter?.parameterValue],
      ['client_encoding', 'UTF8'],
    );
    assert.deepEqual([key?.processID, key?.secretKey], [4711, 0x0a0b0c0d]);
    assert.equal(ready?.status, 'T');
  });

  it('hold every field of an error', async () => {
    const error = {
      severity: 'FATAL',
      sqlstate: '57P01',
      message: 'der Vertrag ist abgelaufen: ü',
      hint: 'renew it',
    } as const;
    const [read] = await oracleReads(errorResponse(error));
    assert.equal(read?.severity, 'FATAL');
    assert.equal(read?.code, '57P01');
    assert.equal(read?.hint, 'renew it');
    const bytes = errorResponse(error);
    assert.deepEqual(readErrorFields(body(bytes)), {
      severity: 'FATAL',
      sqlstate: '57P01',
      message: error.message,
    });
  });

  it('cannot be split by a zero byte in a text', () => {
    const bytes = errorResponse({ severity: 'ERROR', sqlstate: '42501', message: 'a\0Cxx' });
    assert.deepEqual(readErrorFields(body(bytes)), {
      severity: 'ERROR',
      sqlstate: '42501',
      message: 'aCxx',
    });
  });

  it('are read back as they were written', () => {
    assert.deepEqual(readParameterStatus(body(parameterStatus('a', 'ä'))), ['a', 'ä']);
    const key = readBackendKeyData(body(backendKeyData(-1, Buffer.alloc(32, 7))));
    assert.deepEqual(key, { processId: -1, secret: Buffer.alloc(32, 7) });
    assert.equal(readReadyForQuery(body(readyForQuery('E'))), 'E');
    assert.equal(readReadyForQuery(body(message('Z', Buffer.from('Q')))), undefined);
    assert.equal(readCommandComplete(body(message('C', cstring('SELECT 3')))), 'SELECT 3');
  });

  it('count the rows of a command tag', () => {
    const counted = ['SELECT 3', 'INSERT 0 5', 'UPDATE 7', 'COPY 12', 'FETCH 1', 'MERGE 2'];
    assert.deepEqual(counted.map(rowsOfTag), [3, 5, 7, 12, 1, 2]);
    assert.equal(rowsOfTag('BEGIN'), undefined);
    assert.equal(rowsOfTag('SELECT 99999999999999999999'), undefined);
  });
});

describe('frontend messages', () => {
  it('are read as pg-protocol writes them', () => {
    assert.equal(readQuery(body(serialize.query('select 1'))).toString(), 'select 1');
    const parsed = readParse(
      body(serialize.parse({ name: 's', text: 'select $1', types: [23, 25] })),
    );
    assert.deepEqual([parsed.name, parsed.text.toString()], ['s', 'select $1']);
    assert.deepEqual(readTarget(body(serialize.describe({ type: 'S', name: 's' }))), {
      kind: 'S',
      name: 's',
    });
    assert.deepEqual(readTarget(body(serialize.close({ type: 'P', name: '' }))), {
      kind: 'P',
      name: '',
    });
    assert.equal(readExecute(body(serialize.execute({ portal: 'p', rows: 10 }))), 'p');
  });

  it('keep text, binary and NULL parameters apart', () => {
    const binary = Buffer.from([0, 255, 1]);
    const bytes = serialize.bind({
      portal: 'p',
      statement: 's',
      values: ['text', binary, null, 'ü'],
      binary: true,
    });
    const bind = readBind(body(bytes));
    assert.equal(bind.portal, 'p');
    assert.equal(bind.statement, 's');
    assert.deepEqual(bind.values, ['text', binary, null, 'ü']);
  });

  it('are written as pg-protocol writes them', () => {
    const writer = serialize;
    assert.deepEqual(queryMessage('select ü'), writer.query('select ü'));
    assert.deepEqual(parseMessage('select 1'), writer.parse({ text: 'select 1' }));
    assert.deepEqual(sslRequest(), writer.requestSsl());
    assert.deepEqual(cancelRequest(7, Buffer.from([0, 0, 0, 9])), writer.cancel(7, 9));
    const initial = writer.sendSASLInitialResponseMessage('SCRAM-SHA-256', 'n,,n=,r=x');
    assert.deepEqual(saslInitialResponse('SCRAM-SHA-256', 'n,,n=,r=x'), initial);
    assert.deepEqual(saslResponse('c=biws'), writer.sendSCRAMClientFinalMessage('c=biws'));
    const pairs: [string, string][] = [
      ['user', 'u'],
      ['client_encoding', 'UTF8'],
    ];
    assert.deepEqual(startupMessage(pairs), writer.startup({ user: 'u' }));
  });

  it('are refused when a byte is missing, added or wrong', () => {
    const bind = serialize.bind({ values: ['a', null], binary: false });
    const parsed = serialize.parse({ name: 's', text: 'select $1', types: [23] });
    for (const [bytes, read] of [
      [bind, readBind],
      [parsed, readParse],
      [serialize.query('x'), readQuery],
      [serialize.describe({ type: 'S', name: 's' }), readTarget],
      [serialize.execute({ portal: 'p', rows: 1 }), readExecute],
    ] as const) {
      for (let end = 5; end < bytes.length; end += 1) {
        const cut = new BodyReader(bytes, 5, end);
        assert.throws(
          () => read(cut),
          { code: 'PROTOCOL_VIOLATION' },
          `${read.name} cut at ${end}`,
        );
      }
      const longer = Buffer.concat([bytes, Buffer.alloc(1)]);
      const reader = new BodyReader(longer, 5, longer.length);
      assert.throws(() => read(reader), { code: 'PROTOCOL_VIOLATION' }, `${read.name} too long`);
    }
  });

  it('are refused when a length inside lies', () => {
    const bytes = serialize.bind({ values: ['abcd'], binary: false });
    const at = bytes.indexOf(Buffer.from([0, 0, 0, 4, 0x61]));
    for (const length of [5, -2, 0x7fffffff, -0x80000000]) {
      const lying = Buffer.from(bytes);
      lying.writeInt32BE(length, at);
      assert.throws(() => readBind(body(lying)), { code: 'PROTOCOL_VIOLATION' }, `${length}`);
    }
  });

  it('cannot carry a zero byte in a text', () => {
    assert.throws(() => startupMessage([['user', 'a\0role']]), { code: 'PROTOCOL_VIOLATION' });
  });
});
