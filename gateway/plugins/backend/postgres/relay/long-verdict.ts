import { Fault } from '../../../../../runtime/fault.ts';
import { NOT_YET } from '../wire/frames.ts';
import {
  type JudgedStatement,
  notJudged,
  opaqueStatement,
  type StatementDenial,
} from './statement-log.ts';

export interface LongReading {
  /** As `judge`, for texts that would hold up others. @param text UTF-8; must not change until then */
  judgeLong(text: Uint8Array, signal: AbortSignal): Promise<JudgedStatement>;
  /** Called when a message that was NOT_YET can be told about. */
  resume(): void;
}

/** The verdict on the long statement that comes next, which another thread gives. */
export class LongVerdict {
  readonly #options: LongReading;
  #reading: AbortController | undefined;
  #judged: JudgedStatement | undefined;

  constructor(options: LongReading) {
    this.#options = options;
  }

  get isOut(): boolean {
    return this.#reading !== undefined;
  }

  ask(text: Buffer): typeof NOT_YET {
    const reading = new AbortController();
    this.#reading = reading;
    void this.#read(text, reading);
    return NOT_YET;
  }

  take(): JudgedStatement | typeof NOT_YET {
    return this.#judged ?? NOT_YET;
  }

  cancel(): boolean {
    const reading = this.#reading;
    if (reading === undefined || this.#judged !== undefined) return false;
    this.#given(reading, opaqueStatement('unparsed', CANCELLED));
    reading.abort(UNWANTED);
    return true;
  }

  forget(): void {
    const reading = this.#reading;
    if (reading === undefined) return;
    this.#reading = undefined;
    if (this.#judged === undefined) reading.abort(UNWANTED);
    this.#judged = undefined;
  }

  async #read(text: Buffer, reading: AbortController): Promise<void> {
    const { judgeLong } = this.#options;
    const judged = await judgeLong(text, reading.signal).catch((error: unknown) =>
      notJudged(Fault.from(error).message),
    );
    this.#given(reading, judged);
  }

  #given(reading: AbortController, judged: JudgedStatement): void {
    if (this.#reading !== reading || this.#judged !== undefined) return;
    this.#judged = judged;
    this.#options.resume();
  }
}

const UNWANTED = new Fault('UNAVAILABLE', 'the statement is not wanted any more');
/** As the server says it. */
const CANCELLED: StatementDenial = {
  rule: 'cancelled',
  error: {
    severity: 'ERROR',
    sqlstate: '57014',
    message: 'canceling statement due to user request',
  },
};
