/**
 * What a client is told of an ErrorResponse or NoticeResponse where the gateway alone masks: texts of
 * the server quote values, and a RAISE can put one into any field.
 *
 * Source: PostgreSQL 15, "Error and Notice Message Fields"; errcodes.txt.
 */

import type { BodyReader } from '../wire/message-body.ts';
import { cstring, message } from '../wire/message-body.ts';

/** Their messages name what the client wrote, and no value of a row. */
const TELLING: ReadonlySet<string> = new Set([
  '25001',
  '25006',
  '25P01',
  '25P02',
  '26000',
  '34000',
  '3D000',
  '3F000',
  '42501',
  '42601',
  '42702',
  '42703',
  '42704',
  '42725',
  '42803',
  '42804',
  '42883',
  '42P01',
  '42P02',
  '42P18',
  '55P03',
  '57014',
  '57P01',
]);
const RAISED = 'P0001';
const KEPT: ReadonlySet<string> = new Set(['S', 'V', 'P']);

/** @param type `E` or `N` @throws Fault PROTOCOL_VIOLATION */
export function scrubFields(type: string, body: BodyReader): Buffer {
  const fields = new Map<string, Buffer>();
  for (let field = body.byte(); field !== 0; field = body.byte()) {
    fields.set(String.fromCharCode(field), body.cstringBytes());
  }
  body.finish();
  const parts: Uint8Array[] = [];
  const put = (field: string, text: Uint8Array) =>
    parts.push(Buffer.from(field, 'latin1'), text, Buffer.alloc(1));
  const sqlstate = fields.get('C')?.toString('latin1') ?? '';
  // What a function raises has a context; a RAISE outside of one is told by its routine.
  const raised = fields.has('W') || fields.get('R')?.toString('latin1') === 'exec_stmt_raise';
  const shownState = raised || !/^[0-9A-Z]{5}$/.test(sqlstate) ? RAISED : sqlstate;
  for (const [field, text] of fields) if (KEPT.has(field)) put(field, text);
  put('C', Buffer.from(shownState, 'latin1'));
  const text = TELLING.has(shownState) ? fields.get('M') : undefined;
  put('M', text ?? withheld(shownState));
  return message(type, ...parts, Buffer.alloc(1));
}

function withheld(sqlstate: string): Buffer {
  const text = cstring(`the server says ${sqlstate}; the gateway withholds its text`);
  return text.subarray(0, -1);
}
