/** A session's record as a person reads it: one event in one to few lines. */
import type {
  Parameter,
  RecordedEvent,
  Statement,
  StatementResult,
} from '../proto/gen/writ/gateway/v1/recording_pb.ts';
import { printable } from './table.ts';
import { isoTime } from './time.ts';

export function transcriptLines(recorded: RecordedEvent): string[] {
  const time = isoTime(recorded.at).slice(11, 23);
  const { event } = recorded;
  switch (event.case) {
    case 'opened': {
      const { spiffeId, grant, backend, owner, purpose, clientAddress } = event.value;
      return [
        `${time}  opened   ${printable(spiffeId)} on ${backend} by grant ${grant}`,
        `              owner ${printable(owner)}, purpose ${printable(purpose)}, from ${clientAddress}`,
      ];
    }
    case 'statement':
      return statementLines(time, event.value);
    case 'result':
      return [`${time}  #${event.value.number}       ${resultText(event.value)}`];
    case 'closed': {
      const { reason, rows, statements } = event.value;
      return [`${time}  closed   ${printable(reason)} (${statements} statements, ${rows} rows)`];
    }
    default:
      return [`${time}  (an event that this version does not know)`];
  }
}

function statementLines(time: string, statement: Statement): string[] {
  const { number, text, deniedBy, parameters } = statement;
  const shown = text === '' ? '(text not kept: it does not parse)' : printable(text);
  const refused = deniedBy === '' ? '' : `  REFUSED by ${printable(deniedBy)}`;
  const lines = [`${time}  #${number} ${statement.class.padEnd(5)} ${shown}${refused}`];
  if (parameters.length > 0)
    lines.push(`              ${parameters.map(parameterText).join(', ')}`);
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
