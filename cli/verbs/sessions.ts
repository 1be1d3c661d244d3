/** `writ session list|show|kill`: what is open on the gateways, and what was. */
import { type Session, SessionService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { printRecord, printTable } from '../table.ts';
import { isoTime } from '../time.ts';
import { textFlag, type Verb } from '../verb.ts';

export const sessionList: Verb = {
  path: ['session', 'list'],
  positionals: [],
  summary: 'List sessions, newest first',
  options: {
    open: { type: 'boolean', default: false },
    limit: { type: 'string', default: '100' },
    json: { type: 'boolean', default: false },
  },
  async run(flags, io) {
    const limit = Number(textFlag(flags, 'limit'));
    if (!Number.isInteger(limit) || limit < 1 || limit > 1000) {
      throw new Fault('USAGE', '--limit: write a number from 1 to 1000');
    }
    const { sessions } = await io
      .admin(SessionService)
      .listSessions({ openOnly: flags.open === true, limit }, { signal: io.signal });
    const columns = [
      'id',
      'spiffe_id',
      'backend',
      'grant',
      'reason',
      'opened_at',
      'closed_at',
      'close_reason',
    ];
    printTable(io, sessions.map(sessionRecord), columns, flags.json === true);
  },
};

export const sessionShow: Verb = {
  path: ['session', 'show'],
  positionals: ['SESSION'],
  summary: 'Show one session',
  options: { json: { type: 'boolean', default: false } },
  async run(flags, io, [sessionId = '']) {
    const { session } = await io
      .admin(SessionService)
      .getSession({ sessionId }, { signal: io.signal });
    if (session !== undefined) printRecord(io, sessionRecord(session), flags.json === true);
  },
};

export const sessionKill: Verb = {
  path: ['session', 'kill'],
  positionals: ['SESSION'],
  summary: 'End a session within a second',
  options: { reason: { type: 'string', default: 'ended by an operator' } },
  async run(flags, io, [sessionId = '']) {
    const request = { sessionId, reason: textFlag(flags, 'reason') ?? '' };
    await io.admin(SessionService).killSession(request, { signal: io.signal });
    io.err(`killed ${sessionId}`);
  },
};

function sessionRecord(session: Session) {
  return {
    id: session.id,
    spiffe_id: session.spiffeId,
    svid_serial: session.svidSerial,
    owner: session.owner,
    purpose: session.purpose,
    reason: session.reason,
    backend: session.backend,
    grant: session.grant,
    gateway: session.gateway,
    client_address: session.clientAddress,
    opened_at: isoTime(session.openedAt),
    expires_at: isoTime(session.expiresAt),
    closed_at: isoTime(session.closedAt),
    close_reason: session.closeReason,
    statements: Number(session.statements),
    rows: Number(session.rows),
    bytes_up: Number(session.bytesUp),
    bytes_down: Number(session.bytesDown),
    entry_id: session.entryId,
    agent_id: session.agentId,
  };
}
