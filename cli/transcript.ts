/** A session's record as a person reads it: one event in one to few lines. */
import { StringDecoder } from 'node:string_decoder';
import {
  type ChannelClosed,
  type ChannelOpened,
  type ChannelOutput,
  type Finding,
  FindingKind,
  type Parameter,
  type RecordedEvent,
  type SessionClosed,
  type SessionOpened,
  type Statement,
  type StatementResult,
} from '../proto/gen/writ/gateway/v1/recording_pb.ts';
import { RowLines } from './row-lines.ts';
import { printable } from './table.ts';
import { isoTime } from './time.ts';

/** Of a line of output that has no end; then it is shown in pieces. */
const LONGEST_LINE = 4096;
const INDENT = ' '.repeat(14);

/** The lines of one event that stands alone. */
export function transcriptLines(recorded: RecordedEvent): string[] {
  const transcript = new Transcript();
  return [...transcript.lines(recorded), ...transcript.end()];
}

/** The lines of a record's events in order. What channels wrote is shown by whole lines, whatever the pieces. */
export class Transcript {
  readonly #outputs = new Map<string, OutputLine>();
  readonly #rows = new RowLines();
  #isOfChannels = false;

  lines(recorded: RecordedEvent): string[] {
    const time = timeOf(recorded);
    const { event } = recorded;
    switch (event.case) {
      case 'opened':
        return openedLines(time, event.value);
      case 'statement':
        return statementLines(time, event.value);
      case 'result':
        return [`${time}  #${event.value.number}       ${resultText(event.value)}`];
      case 'finding':
        return [`${time}  ${findingText(event.value)}`];
      case 'rows':
        return this.#rows.lines(event.value).map((line) => `${INDENT}${line}`);
      case 'channelOpened':
        this.#isOfChannels = true;
        return [channelLine(time, event.value.channel, channelText(event.value))];
      case 'channelOutput':
        return this.#outputLines(time, event.value);
      case 'channelResized': {
        const { channel, columns, rows } = event.value;
        return [channelLine(time, channel, `size   ${columns}x${rows}`)];
      }
      case 'channelClosed': {
        const { channel } = event.value;
        const rest = this.#restOf((output) => output.channel === channel);
        return [...rest, channelLine(time, channel, `end    ${endText(event.value)}`)];
      }
      case 'closed':
        return [...this.end(), `${time}  closed   ${this.#closedText(event.value)}`];
      default:
        return [`${time}  (an event that this version does not know)`];
    }
  }

  /** What stands unfinished where the record ends. */
  end(): string[] {
    return this.#restOf(() => true);
  }

  #outputLines(time: string, { channel, isStderr, data }: ChannelOutput): string[] {
    const key = `${channel} ${isStderr}`;
    const output = this.#outputs.get(key) ?? new OutputLine(channel, isStderr);
    this.#outputs.set(key, output);
    return output.add(time, data);
  }

  #restOf(isMeant: (output: OutputLine) => boolean): string[] {
    const meant = [...this.#outputs].filter(([, output]) => isMeant(output));
    for (const [key] of meant) this.#outputs.delete(key);
    return meant.flatMap(([, output]) => output.end());
  }

  #closedText({ reason, rows, statements, bytesUp, bytesDown }: SessionClosed): string {
    const counts = this.#isOfChannels
      ? `${bytesUp} bytes up, ${bytesDown} down`
      : `${statements} statements, ${rows} rows`;
    return `${printable(reason)} (${counts})`;
  }
}

/** The line that a channel is writing. */
class OutputLine {
  readonly channel: number;
  readonly #mark: string;
  readonly #decoder = new StringDecoder('utf8');
  #text = '';
  /** Of its first byte. */
  #time = '';

  constructor(channel: number, isStderr: boolean) {
    this.channel = channel;
    this.#mark = isStderr ? '!' : '|';
  }

  /** The lines that end with these bytes. */
  add(time: string, data: Uint8Array): string[] {
    if (this.#text === '') this.#time = time;
    const [first = '', ...others] = this.#decoder.write(Buffer.from(data)).split(/[\r\n]+/);
    this.#text += first;
    const lines: string[] = [];
    for (const next of others) {
      lines.push(...this.#take());
      this.#time = time;
      this.#text = next;
    }
    if (this.#text.length > LONGEST_LINE) lines.push(...this.#take());
    return lines;
  }

  end(): string[] {
    this.#text += this.#decoder.end();
    return this.#take();
  }

  #take(): string[] {
    const shown = printable(withoutColours(this.#text));
    this.#text = '';
    return shown === '' ? [] : [channelLine(this.#time, this.channel, `${this.#mark} ${shown}`)];
  }
}

/** Without what moves a cursor or sets a colour; all text stays, and so do escapes that hold text. */
function withoutColours(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is being looked for
  return text.replace(/\u001b\[[0-?]*[ -/]*[@-~]/g, '');
}

function timeOf({ at }: RecordedEvent): string {
  return isoTime(at).slice(11, 23);
}

function openedLines(time: string, opened: SessionOpened): string[] {
  const { spiffeId, grant, backend, owner, purpose, clientAddress } = opened;
  const { login } = opened.client;
  const as = login === undefined ? '' : ` as ${printable(login)}`;
  return [
    `${time}  opened   ${printable(spiffeId)} on ${printable(backend)}${as} by grant ${printable(grant)}`,
    `${INDENT}owner ${printable(owner)}, purpose ${printable(purpose)}, from ${printable(clientAddress)}`,
    ...(opened.reason === '' ? [] : [`${INDENT}reason ${printable(opened.reason)}`]),
  ];
}

function channelLine(time: string, channel: number, text: string): string {
  return `${time}  ch ${channel} ${text}`;
}

function channelText({ kind, command, terminal, deniedBy }: ChannelOpened): string {
  const parts = [
    printable(kind).padEnd(6),
    ...(command === '' ? [] : [printable(command)]),
    ...(terminal === undefined
      ? []
      : [`(${printable(terminal.term)} ${terminal.columns}x${terminal.rows})`]),
    ...(deniedBy === '' ? [] : [` REFUSED by ${printable(deniedBy)}`]),
  ];
  return parts.join(' ').trimEnd();
}

function endText(closed: ChannelClosed): string {
  const { exitStatus, exitSignal, bytesUp, bytesDown, bytesOmitted } = closed;
  const signal = exitSignal === '' ? 'cut off' : `signal ${printable(exitSignal)}`;
  const how = exitStatus === undefined ? signal : `exit status ${exitStatus}`;
  const omitted = bytesOmitted === 0n ? '' : `, ${bytesOmitted} of them not kept`;
  return `${how}, ${bytesUp} bytes up, ${bytesDown} down${omitted}`;
}

const FINDINGS: Partial<Record<FindingKind, string>> = {
  [FindingKind.MASKED]: 'masked by the detector',
  [FindingKind.SHOWN]: 'shown, found by the detector',
  [FindingKind.UNMASKED]: 'UNMASKED column',
};

function findingText({ kind, name, count }: Finding): string {
  return `found    ${FINDINGS[kind] ?? 'something'} ${printable(name)} (${count})`;
}

function statementLines(time: string, statement: Statement): string[] {
  const { number, text, deniedBy, parameters } = statement;
  const shown = text === '' ? '(text not kept: it does not parse)' : printable(text);
  const refused = deniedBy === '' ? '' : `  REFUSED by ${printable(deniedBy)}`;
  const lines = [`${time}  #${number} ${printable(statement.class).padEnd(5)} ${shown}${refused}`];
  if (parameters.length > 0) lines.push(`${INDENT}${parameters.map(parameterText).join(', ')}`);
  return lines;
}

function parameterText({ position, target, content }: Parameter): string {
  const name = target === '' ? '' : ` (${printable(target)})`;
  const value = content.case === 'value' ? printable(content.value) : 'withheld';
  return `$${position}${name} = ${value}`;
}

function resultText(result: StatementResult): string {
  const took = `${(Number(result.durationMicroseconds) / 1000).toFixed(1)} ms`;
  if (result.sqlstate !== '') return `error ${printable(result.sqlstate)}, ${took}`;
  const masked = result.maskedColumns.map(printable).join(', ');
  return `${printable(result.commandTag)}, ${took}${masked === '' ? '' : `, masked: ${masked}`}`;
}
