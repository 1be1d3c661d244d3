import { isIPv4 } from 'node:net';
import { timestampDate } from '@bufbuild/protobuf/wkt';
import { SpiffeId, type TrustDomain } from '../../../identity/spiffe-id.ts';
import type { Backend, Columns, Grant } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { formatDuration } from '../../../runtime/duration.ts';
import { secretOf } from '../../secrets/backends-naming.ts';
import { checkGrantPlace, checkPlaces } from './check-places.ts';
import { checkPostgresRights } from './check-postgres-rights.ts';
import { checkRightsFit } from './check-rights-fit.ts';
import type { FutureState, Placed } from './future-state.ts';

export interface DeclarationRules {
  readonly trustDomain: TrustDomain;
  readonly now: Date;
  /** Longest session that any grant may allow. */
  readonly sessionMaximumSeconds: number;
  /** Under which clients reach gateways. */
  readonly gatewayHosts: ReadonlySet<string>;
  /** Names of those that the vault holds. */
  readonly secrets: ReadonlySet<string>;
}

/** What is wrong with resources as a whole: names that point nowhere, rules that need more than one field. */
export function checkDeclarations(state: FutureState, rules: DeclarationRules): string[] {
  return [
    ...[...state.backends.values()].flatMap((backend) => checkBackend(backend, rules)),
    ...[...state.columns.values()].flatMap((columns) => checkColumns(columns, state)),
    ...checkClassifiedOnce(state),
    ...checkPlaces(state),
    ...[...state.grants.values()].flatMap((grant) => checkGrant(grant, state, rules)),
  ];
}

function checkBackend(
  { value, isDeclared, at }: Placed<Backend>,
  { gatewayHosts, secrets }: DeclarationRules,
): string[] {
  if (!isDeclared) return [];
  if (value.type.case === 'ssh') {
    // Its target's host certificate would pass for the gateway's, and the gateway would get none.
    return gatewayHosts.has(value.name)
      ? [`${at(['name'])}: ${value.name} is a gateway's host`]
      : [];
  }
  if (value.type.case !== 'postgres') return [];
  const { host, tls, failover, replicas } = value.type.value;
  const hosts = [host, ...[...failover, ...replicas].map((other) => other.host)];
  const problems: string[] = [];
  if (tls === undefined && !hosts.every(isLoopback))
    problems.push(`${at(['postgres'])}: expected tls: only a loopback host may go without`);
  const secret = secretOf(value);
  if (secret !== undefined && !secrets.has(secret))
    problems.push(
      `${at(['postgres', 'login', 'password_secret'])}: the vault has no secret ${secret}: writ secret put ${secret}`,
    );
  return problems;
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'));
}

function checkColumns({ value, at }: Placed<Columns>, state: FutureState): string[] {
  const problems = checkBackendName({ value, at }, state);
  const type = state.backends.get(value.backend)?.value.type.case;
  if (type !== undefined && type !== 'postgres') {
    problems.push(`${at(['backend'])}: backend ${value.backend} is of type ${type}: no columns`);
  }
  for (const { table, columns } of value.tables) {
    for (const [column, name] of Object.entries(columns)) {
      if (state.columnClasses.has(name) || state.unread.has(`ColumnClass/${name}`)) continue;
      problems.push(`${at(['tables', table, column])}: no column class ${name} is declared`);
    }
  }
  return problems;
}

/** A column in two classes would be masked by whichever is read last. */
function checkClassifiedOnce(state: FutureState): string[] {
  const seen = new Set<string>();
  const problems: string[] = [];
  for (const { value, at } of state.columns.values()) {
    for (const { table, columns } of value.tables) {
      for (const column of Object.keys(columns)) {
        const key = `${value.backend}/${table}.${column}`;
        if (seen.has(key)) {
          problems.push(`${at(['tables', table, column])}: the column is in a class already`);
        }
        seen.add(key);
      }
    }
  }
  return problems;
}

function checkGrant(grant: Placed<Grant>, state: FutureState, rules: DeclarationRules): string[] {
  return [
    ...(grant.isDeclared ? checkDeclaredGrant(grant, rules) : []),
    ...checkBackendName(grant, state),
    ...checkRightsFit(grant, state),
    ...checkGrantPlace(grant, state),
    ...checkPostgresRights(grant, state),
  ];
}

function checkBackendName(
  { value, at }: Pick<Placed<{ backend: string }>, 'value' | 'at'>,
  state: FutureState,
): string[] {
  const { backend } = value;
  if (state.backends.has(backend) || state.unread.has(`Backend/${backend}`)) return [];
  return [`${at(['backend'])}: no backend ${backend} is declared`];
}

function checkDeclaredGrant(
  { value, at }: Placed<Grant>,
  { trustDomain, now, sessionMaximumSeconds }: DeclarationRules,
): string[] {
  const problems: string[] = [];
  const identity = SpiffeId.parse(value.identity);
  if (identity.trustDomain !== trustDomain) {
    problems.push(`${at(['identity'])}: expected an identity of trust domain ${trustDomain}`);
  } else if (identity.isReserved || identity.path === '') {
    problems.push(`${at(['identity'])}: expected a workload; /spire and /writ are reserved`);
  }
  if (value.expiresAt === undefined || timestampDate(value.expiresAt) <= now) {
    problems.push(`${at(['expires_at'])}: expected a time in the future`);
  }
  if (Number(value.session?.maximum?.seconds) > sessionMaximumSeconds) {
    const most = formatDuration(sessionMaximumSeconds);
    problems.push(`${at(['session', 'maximum'])}: expected at most ${most}, the server's maximum`);
  }
  return problems;
}
