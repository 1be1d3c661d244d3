import { Fault } from '../../../../../runtime/fault.ts';
import { BodyReader } from '../wire/message-body.ts';
import type { Detectors } from './detectors/detectors.ts';
import { Findings } from './findings.ts';
import { maskRow, planResult, type ResultPlan, type ResultRules } from './result-plan.ts';
import { scrubFields } from './scrub-fields.ts';
import type { SecondWall } from './second-wall.ts';
import type { StatementReach } from './statement-reach.ts';

/** What is known of one statement's results, as they come. */
export class StatementResult {
  readonly reach: StatementReach;
  /** Of the result that comes now. */
  plan: ResultPlan | undefined;
  /** The backend was asked to describe it. */
  asked = false;

  constructor(reach: StatementReach) {
    this.reach = reach;
  }
}

export interface ResultGuardParts {
  /** Undefined where the database masks. */
  readonly rules: ResultRules | undefined;
  readonly detectors: Detectors | undefined;
  /** Where the database masks. */
  readonly wall?: Pick<SecondWall, 'unmaskedIn'> | undefined;
}

const HEADER_BYTES = 5;
const BINARY = 1;
const PROCESS_ID_BYTES = 4;
/** Settings whose reported value can be any text. */
const FREE_SETTINGS: ReadonlySet<string> = new Set(['application_name', 'search_path']);
const DROPPED = Buffer.alloc(0);

/** Looks at all that a backend says to a client, and masks. */
export class ResultGuard {
  readonly #rules: ResultRules | undefined;
  readonly #detectors: Detectors | undefined;
  readonly #wall: Pick<SecondWall, 'unmaskedIn'> | undefined;
  /** Of the session, if the guard is one session's. */
  readonly findings: Findings;

  constructor(parts: ResultGuardParts, findings = new Findings()) {
    this.#rules = parts.rules;
    this.#detectors = parts.detectors;
    this.#wall = parts.wall;
    this.findings = findings;
  }

  /** The same for one session, which collects what is found in it. */
  forSession(): ResultGuard {
    const findings = new Findings();
    const detectors = this.#detectors?.tellingToo((name, masked) =>
      findings.detected(name, masked),
    );
    return new ResultGuard({ rules: this.#rules, detectors, wall: this.#wall }, findings);
  }

  /** What must be described before it runs. */
  get describes(): 'each result' | 'each statement' | 'nothing' {
    if (this.#rules !== undefined) return 'each result';
    return this.#wall === undefined ? 'nothing' : 'each statement';
  }

  /** Whether `row`, `copyData` and `mustHold` need to be asked at all. */
  get readsRows(): boolean {
    return this.#rules !== undefined || this.#detectors !== undefined;
  }

  /** The first classified column that a RowDescription shows past the view that masks it. */
  unmaskedIn(body: BodyReader): string | undefined {
    return this.#wall?.unmaskedIn(body);
  }

  /** Whether rows must be whole before they go on. */
  mustHold(type: string, result: StatementResult | undefined): boolean {
    if (this.#detectors !== undefined) return true;
    return type === 'D' && result?.plan?.masks !== false;
  }

  /** @throws Fault PROTOCOL_VIOLATION, as all of this class */
  describe(body: BodyReader, result: StatementResult | undefined): void {
    if (this.#rules === undefined) return;
    if (result === undefined) throw violation('a result that no statement has');
    result.plan = planResult(body, result.reach, this.#rules);
  }

  /** One whole DataRow. @returns undefined if it goes on as it stands in `data` */
  row(
    data: Buffer,
    { start, end }: { start: number; end: number },
    result: StatementResult | undefined,
  ): Buffer | undefined {
    const masked = this.#masked(data, start, end, result);
    if (this.#detectors === undefined) return masked;
    const isWhole =
      masked === undefined
        ? this.#detectors.scanRow(data, start, end)
        : this.#detectors.scanRow(masked, 0, masked.length);
    if (!isWhole) throw violation('malformed row');
    return masked;
  }

  #masked(
    data: Buffer,
    start: number,
    end: number,
    result: StatementResult | undefined,
  ): Buffer | undefined {
    if (this.#rules === undefined) return undefined;
    const plan = result?.plan;
    if (plan === undefined) throw violation('a row before its description');
    return plan.masks ? maskRow(plan, data, start, end) : undefined;
  }

  /** COPY data: a line, or a piece of one. Changed in place. */
  copyData(data: Buffer, start: number, end: number): void {
    this.#detectors?.scan(data, start + HEADER_BYTES, end);
  }

  /** Every other message. @returns undefined if it goes on as it stands in `data` */
  message(type: string, data: Buffer, start: number, end: number): Buffer | undefined {
    const body = new BodyReader(data, start + HEADER_BYTES, end);
    switch (type) {
      case 'E':
      case 'N':
        return this.#text(type, body, data.subarray(start, end));
      case 'S':
        return this.#rules !== undefined && FREE_SETTINGS.has(body.cstring()) ? DROPPED : undefined;
      case 'A':
        // Any session may put any value into it, and no statement of this one tells which.
        if (this.#rules !== undefined) return DROPPED;
        this.#detectors?.scan(data, start + HEADER_BYTES + PROCESS_ID_BYTES, end);
        return undefined;
      case 'H':
        if (this.#detectors?.masks === true && body.byte() === BINARY) {
          throw new Fault('PERMISSION_DENIED', 'detectors do not read COPY in binary: use text');
        }
        return undefined;
      default:
        return undefined;
    }
  }

  #text(type: string, body: BodyReader, whole: Buffer): Buffer | undefined {
    const scrubbed = this.#rules === undefined ? undefined : scrubFields(type, body);
    const text = scrubbed ?? whole;
    if (this.#detectors === undefined) return scrubbed;
    // A letter, a text, a zero byte; the last field is a zero byte alone.
    for (let at = HEADER_BYTES; at < text.length && text[at] !== 0; ) {
      const zero = text.indexOf(0, at);
      if (zero < 0) throw violation('malformed message');
      this.#detectors.scan(text, at + 1, zero);
      at = zero + 1;
    }
    return scrubbed;
  }
}

function violation(message: string): Fault {
  return new Fault('PROTOCOL_VIOLATION', message);
}
