import { Fault, type FaultCode } from '../../../../../runtime/fault.ts';
import { BudgetFault } from '../../../../session/budget.ts';
import { cstring, message } from './message-body.ts';

/** What an ErrorResponse tells. Everything in it reaches the client. */
export interface PostgresError {
  readonly severity: 'ERROR' | 'FATAL';
  readonly sqlstate: string;
  readonly message: string;
  readonly detail?: string;
  readonly hint?: string;
}

/** Source: PostgreSQL 15, "Error and Notice Message Fields". */
export function errorResponse(error: PostgresError): Buffer {
  const fields: [string, string | undefined][] = [
    ['S', error.severity],
    ['V', error.severity],
    ['C', error.sqlstate],
    ['M', error.message],
    ['D', error.detail],
    ['H', error.hint],
  ];
  const parts = fields.flatMap(([type, value]) =>
    value === undefined ? [] : [Buffer.from(type, 'latin1'), cstring(value.replaceAll('\0', ''))],
  );
  return message('E', ...parts, Buffer.alloc(1));
}

export function fatal(sqlstate: string, text: string): Buffer {
  return errorResponse({ severity: 'FATAL', sqlstate, message: text });
}

const STARTUP_STATES: Partial<Record<FaultCode, string>> = {
  PERMISSION_DENIED: '28000',
  UNAUTHENTICATED: '28000',
  SVID_INVALID: '28000',
  NOT_FOUND: '3D000',
  FAILED_PRECONDITION: '55000',
  RESOURCE_EXHAUSTED: '53300',
  UNAVAILABLE: '57P03',
  AUDIT_UNWRITABLE: '57P03',
  RECORDING_UNWRITABLE: '57P03',
  BACKEND_FAILED: '08006',
  INVALID_ARGUMENT: '22023',
  PROTOCOL_VIOLATION: '08P01',
};

const STARTUP_HINTS: Partial<Record<FaultCode, string>> = {
  PERMISSION_DENIED:
    "Name the backend as the database; a grant's name as the user chooses that grant.",
  RESOURCE_EXHAUSTED: 'Close sessions that are not used, then connect again.',
  UNAVAILABLE: 'Connect again; if it lasts, tell the operator of the gateway.',
  AUDIT_UNWRITABLE: 'Connect again; if it lasts, tell the operator of the gateway.',
  RECORDING_UNWRITABLE: 'Tell the operator of the gateway: it cannot record.',
  BACKEND_FAILED: "Tell the operator of the gateway: its log has the backend's answer.",
};

/** What a client is told when its session cannot be opened. */
export function startupError(fault: Fault): PostgresError {
  const hint = STARTUP_HINTS[fault.code];
  return {
    severity: 'FATAL',
    sqlstate: STARTUP_STATES[fault.code] ?? 'XX000',
    message: fault.message,
    ...(hint === undefined ? {} : { hint }),
  };
}

/** A client holds a transaction open and says nothing (threats P12). */
export class IdleInTransaction extends Fault {
  constructor(milliseconds: number) {
    super(
      'RESOURCE_EXHAUSTED',
      `the session was idle in a transaction for ${milliseconds / 1000} s`,
    );
  }
}

/** SQLSTATE of a live session's end, by what ended it. */
export function endSqlstate(fault: Fault): string {
  if (fault instanceof BudgetFault) return '53400';
  if (fault instanceof IdleInTransaction) return '25P03';
  if (fault.code === 'PROTOCOL_VIOLATION') return '08P01';
  if (fault.code === 'RESOURCE_EXHAUSTED') return '54000';
  if (fault.code === 'BACKEND_FAILED') return '08006';
  return fault.code === 'INTERNAL' ? 'XX000' : '57P01';
}
