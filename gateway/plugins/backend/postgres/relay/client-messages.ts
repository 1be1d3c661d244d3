/**
 * What a client says, message by message: allowed at this point, judged, recorded, and then handed on,
 * changed or dropped.
 *
 * A refused statement is not answered here: the backend gets text that it cannot parse, so that its
 * transaction state and its skipping to Sync stay its own; its error is replaced on the way back.
 */
import { isUtf8 } from 'node:buffer';
import { Fault } from '../../../../../runtime/fault.ts';
import { UNKNOWN_REACH } from '../masking/statement-reach.ts';
import { LONGEST_READ_HERE } from '../statements/statement.ts';
import { type FrameRules, HEADER_BYTES, NOT_YET } from '../wire/frames.ts';
import {
  describePortalMessage,
  parseMessage,
  queryMessage,
  readBind,
  readExecute,
  readParse,
  readQuery,
  readTarget,
} from '../wire/frontend-messages.ts';
import { BodyReader } from '../wire/message-body.ts';
import { type Exchange, Pending } from './exchange.ts';
import { type LongReading, LongVerdict } from './long-verdict.ts';
import {
  type JudgedStatement,
  type NumberedStatement,
  opaqueStatement,
  type StatementLog,
  statementDenial,
} from './statement-log.ts';

const LONGEST_MESSAGE = 64 * 1024 * 1024;
const LONGEST_STATEMENT_BYTES = 16 * 1024 * 1024;
const LONGEST_NAMES = 64 * 1024;
const MOST_NAMES = 10_000;
const MOST_PREPARED_BYTES = 16 * 1024 * 1024;

/** `F` (FunctionCall) is let in to be refused as a statement is; any other type ends the session. */
export const CLIENT_RULES: FrameRules = {
  limits: {
    Q: LONGEST_MESSAGE,
    P: LONGEST_MESSAGE,
    B: LONGEST_MESSAGE,
    F: LONGEST_MESSAGE,
    d: LONGEST_MESSAGE,
    D: LONGEST_NAMES,
    E: LONGEST_NAMES,
    C: LONGEST_NAMES,
    f: LONGEST_NAMES,
    H: 4,
    S: 4,
    X: 4,
    c: 4,
  },
  streamed: 'd',
};

/** Never parses, in whatever state the backend is. */
const REFUSED_TEXT = 'refused_by_writ';
const REFUSED_QUERY = queryMessage(REFUSED_TEXT);
const REFUSED_PARSE = parseMessage(REFUSED_TEXT);
const DROPPED = Buffer.alloc(0);
/** Stands for an Execute with a Describe of its portal before it. */
const DESCRIBE_FIRST = Buffer.alloc(0);

export interface ClientMessagesOptions extends LongReading {
  readonly exchange: Exchange;
  readonly log: StatementLog;
  /** What the backend is asked to describe before it runs, if the client does not ask. */
  readonly describes: 'each result' | 'each statement' | 'nothing';
  judge(sql: string): JudgedStatement;
}

/** `bytes` to send, `undefined` to hand on, as a FrameHandler. */
type Instead = Buffer | typeof NOT_YET | undefined;

export class ClientMessages {
  readonly #exchange: Exchange;
  readonly #log: StatementLog;
  readonly #judge: (sql: string) => JudgedStatement;

  readonly #describes: ClientMessagesOptions['describes'];
  readonly #long: LongVerdict;

  constructor(options: ClientMessagesOptions) {
    this.#exchange = options.exchange;
    this.#log = options.log;
    this.#judge = options.judge;
    this.#describes = options.describes;
    this.#long = new LongVerdict(options);
  }

  /** Nobody waits for a verdict any more. */
  stop(): void {
    this.#long.forget();
  }

  /** The statement that waits for its verdict is not to run. @returns whether there was one */
  cancelWaiting(): boolean {
    return this.#long.cancel();
  }

  /** A FrameHandler for CLIENT_RULES. */
  handle(data: Buffer, start: number, end: number): Instead {
    const instead = this.#handle(data, start, end);
    // A message that came to nothing meanwhile must not leave its verdict to the next one.
    if (instead !== NOT_YET) this.#long.forget();
    return instead;
  }

  #handle(data: Buffer, start: number, end: number): Instead {
    const exchange = this.#exchange;
    const type = String.fromCharCode(data[start] ?? 0);
    if (exchange.terminated) return DROPPED;
    if (type === 'X') {
      exchange.terminated = true;
      return undefined;
    }
    if (type === 'd' || type === 'c' || type === 'f') return this.#copyData(type);
    if (exchange.copyIn === 'open') {
      if (type === 'S' || type === 'H') return DROPPED;
      throw violation(`message '${type}' while COPY data is expected`);
    }
    exchange.copyIn = 'no';
    if (exchange.skipping && type !== 'S') return DROPPED;
    const instead = this.#statement(type, new BodyReader(data, start + HEADER_BYTES, end));
    return instead === DESCRIBE_FIRST ? this.#describeFirst(data.subarray(start, end)) : instead;
  }

  #copyData(type: string): Buffer | undefined {
    const exchange = this.#exchange;
    if (exchange.copyIn === 'failed') return DROPPED;
    if (exchange.copyIn === 'no') return exchange.earlyCopyData(type) ? undefined : DROPPED;
    if (type !== 'd') exchange.copyIn = 'no';
    return undefined;
  }

  #statement(type: string, body: BodyReader): Instead {
    switch (type) {
      case 'Q':
        return this.#query(body);
      case 'P':
        return this.#parse(body);
      case 'B':
        return this.#bind(body);
      case 'D':
        return this.#describe(body);
      case 'E':
        return this.#execute(body);
      case 'C':
        return this.#close(body);
      case 'F':
        return this.#functionCall();
      case 'S':
        this.#sync();
        return undefined;
      default:
        return undefined;
    }
  }

  #query(body: BodyReader): Instead {
    const judged = this.#judgeText(readQuery(body));
    return judged === NOT_YET ? NOT_YET : this.#addQuery(judged);
  }

  /** Answered as a Query is: an error and ReadyForQuery. */
  #functionCall(): Buffer | undefined {
    const denial = statementDenial('function calls by number are not served');
    return this.#addQuery(opaqueStatement('other', denial));
  }

  #addQuery(judged: JudgedStatement): Buffer | undefined {
    const { denial } = judged;
    const statement = this.#log.open(judged, []);
    const startedMs = this.#log.nowMs;
    if (denial === undefined) this.#exchange.namesTouched(judged.names);
    this.#exchange.add(new Pending('query', startedMs, statement));
    return denial === undefined ? undefined : REFUSED_QUERY;
  }

  #parse(body: BodyReader): Instead {
    const exchange = this.#exchange;
    const { name, text } = readParse(body);
    const { size, weight } = exchange.statements;
    const full = size >= MOST_NAMES || weight > MOST_PREPARED_BYTES;
    const judged = full ? TOO_MANY_STATEMENTS : this.#judgeText(text);
    if (judged === NOT_YET) return NOT_YET;
    if (judged.denial !== undefined) return this.#refuse('parse', judged);
    const pending = new Pending('parse', this.#log.nowMs);
    pending.prepared = { judged, bytes: judged.keptBytes ?? text.length, described: false };
    pending.statementName = exchange.statements.begin(name, pending.prepared, exchange.batch);
    exchange.add(pending);
    return undefined;
  }

  /** A statement is recorded here: its values are known, and a backend may evaluate it in planning. */
  #bind(body: BodyReader): Buffer | undefined {
    const exchange = this.#exchange;
    const { portal, statement: name, values } = readBind(body);
    const prepared = exchange.statements.lookup(name, exchange.batch);
    if (prepared === undefined) {
      return this.#refuse('bind', opaqueStatement('other', UNKNOWN_STATEMENT));
    }
    if (exchange.portals.size >= MOST_NAMES) return this.#refuse('bind', TOO_MANY_PORTALS);
    const statement = this.#log.open(prepared.judged, values);
    statement.source = prepared;
    const pending = new Pending('bind', this.#log.nowMs, statement);
    pending.portalName = exchange.portals.begin(portal, statement, exchange.batch);
    exchange.add(pending);
    return undefined;
  }

  /** Puts a Parse that fails in the place of a Parse or Bind; what follows it will be skipped. */
  #refuse(kind: 'parse' | 'bind', judged: JudgedStatement): Buffer {
    const statement = this.#log.open(judged, []);
    this.#exchange.add(new Pending(kind, this.#log.nowMs, statement));
    this.#exchange.skipping = true;
    return REFUSED_PARSE;
  }

  #describe(body: BodyReader): undefined {
    const target = readTarget(body);
    if (target === undefined) throw violation('malformed Describe');
    const { statements, portals } = this.#exchange;
    const { kind, name } = target;
    const source = kind === 'S' ? statements.peek(name) : portals.peek(name)?.source;
    if (source !== undefined) source.described = true;
    this.#exchange.add(new Pending('describe', this.#log.nowMs));
  }

  #execute(body: BodyReader): Buffer | undefined {
    const exchange = this.#exchange;
    const portal = readExecute(body);
    // A portal without a Bind is a cursor that a recorded DECLARE has opened.
    const statement =
      exchange.portals.lookup(portal, exchange.batch) ?? this.#log.open(UNSEEN_CURSOR, []);
    exchange.namesTouched(statement.names);
    const mustAsk = this.#mustAsk(statement);
    if (mustAsk) {
      // What a name stands for may have changed since its Parse: only the portal itself tells.
      const ask = new Pending('describe', this.#log.nowMs, statement);
      ask.isOwn = true;
      exchange.add(ask);
      if (statement.result !== undefined) statement.result.asked = true;
      if (statement.source !== undefined) statement.source.described = true;
    }
    exchange.add(new Pending('execute', this.#log.nowMs, statement));
    return mustAsk ? DESCRIBE_FIRST : undefined;
  }

  #mustAsk({ result, source }: NumberedStatement): boolean {
    switch (this.#describes) {
      case 'each result':
        return result?.asked === false;
      case 'each statement':
        return source?.described !== true;
      default:
        return false;
    }
  }

  #describeFirst(execute: Buffer): Buffer {
    const portal = readExecute(new BodyReader(execute, HEADER_BYTES, execute.length));
    return Buffer.concat([describePortalMessage(portal), execute]);
  }

  #close(body: BodyReader): undefined {
    const exchange = this.#exchange;
    const target = readTarget(body);
    if (target === undefined) throw violation('malformed Close');
    const { kind, name } = target;
    const pending = new Pending('close', this.#log.nowMs);
    const { statements, portals, batch } = exchange;
    if (kind === 'S') pending.statementName = statements.begin(name, undefined, batch);
    else pending.portalName = portals.begin(name, undefined, batch);
    exchange.add(pending);
  }

  #sync(): void {
    this.#exchange.skipping = false;
    this.#exchange.batch += 1;
    this.#exchange.add(new Pending('sync', this.#log.nowMs));
  }

  #judgeText(text: Buffer): JudgedStatement | typeof NOT_YET {
    if (text.length > LONGEST_STATEMENT_BYTES) return opaqueStatement('unparsed', TOO_LONG);
    if (text.length > LONGEST_READ_HERE && this.#long.isOut) return this.#long.take();
    if (!isUtf8(text)) return opaqueStatement('unparsed', NOT_UTF8);
    if (text.length > LONGEST_READ_HERE) return this.#long.ask(text);
    return this.#judge(text.toString('utf8'));
  }
}

const UNSEEN_CURSOR: JudgedStatement = { ...opaqueStatement('other'), reach: UNKNOWN_REACH };
const UNKNOWN_STATEMENT = statementDenial('this statement was not prepared through the protocol');
const NOT_UTF8 = statementDenial('the text is not UTF-8', '22021');
const TOO_MANY_STATEMENTS = opaqueStatement(
  'other',
  statementDenial('too many prepared statements', '54000', 'Close those that are not used.'),
);
const TOO_MANY_PORTALS = opaqueStatement('other', statementDenial('too many portals', '54000'));
const TOO_LONG = statementDenial(
  'the text is longer than 16 MiB',
  '54000',
  'Bind long values as parameters, or use COPY.',
);

function violation(message: string): Fault {
  return new Fault('PROTOCOL_VIOLATION', message);
}
