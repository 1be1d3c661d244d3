import type { Logger as LoggerRpc } from '../../proto/gen/spire/api/server/logger/v1/logger_pb.ts';
import { LogLevel } from '../../proto/gen/spire/api/types/logger_pb.ts';
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import type { Logger } from '../../runtime/log.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { Datastore } from '../plugins/datastore/datastore.ts';
import { actorOf, type Caller } from './callers.ts';

/** SPIRE's levels, by ours. */
const LEVELS: ReadonlyMap<string, LogLevel> = new Map([
  ['fatal', LogLevel.FATAL],
  ['error', LogLevel.ERROR],
  ['warn', LogLevel.WARN],
  ['info', LogLevel.INFO],
  ['debug', LogLevel.DEBUG],
  ['trace', LogLevel.TRACE],
]);

export interface LoggerServiceOptions {
  readonly store: Datastore;
  readonly audit: AuditLog;
  readonly log: Logger;
  /** What the configuration says now. */
  readonly configuredLevel: () => string;
}

/** SPIRE's logger API: the level of this process's log, until it stops or reads its configuration anew. */
export function loggerService(
  options: LoggerServiceOptions,
): Implementation<typeof LoggerRpc, Caller> {
  const { store, audit, log, configuredLevel } = options;
  const state = () => ({
    currentLevel: levelOf(log.level),
    launchLevel: levelOf(configuredLevel()),
  });

  const set = async (level: string, caller: Caller) => {
    await store.transaction((tx) =>
      audit.append(tx, {
        ...{ type: 'server.log_level', outcome: Outcome.SUCCESS, actor: actorOf(caller) },
        attributes: { level },
      }),
    );
    log.level = level;
    return state();
  };

  return {
    async getLogger() {
      return state();
    },

    async setLogLevel({ newLevel }, { caller }) {
      if (newLevel === LogLevel.UNSPECIFIED)
        throw new Fault('INVALID_ARGUMENT', 'newLevel value cannot be LogLevel_UNSPECIFIED');
      return set(nameOf(newLevel), caller);
    },

    async resetLogLevel(_request, { caller }) {
      return set(configuredLevel(), caller);
    },
  };
}

function levelOf(name: string): LogLevel {
  return LEVELS.get(name) ?? LogLevel.UNSPECIFIED;
}

/** There is no `panic` here: what would be logged so is `fatal`. */
function nameOf(level: LogLevel): string {
  if (level === LogLevel.PANIC) return 'fatal';
  const found = [...LEVELS].find(([, one]) => one === level);
  if (found !== undefined) return found[0];
  throw new Fault('INVALID_ARGUMENT', `unsupported log level ${level}`);
}
