import assert from 'node:assert/strict';
import { Health } from '../../proto/gen/grpc/health/v1/health_pb.ts';
import { Debug } from '../../proto/gen/spire/api/server/debug/v1/debug_pb.ts';
import { Logger } from '../../proto/gen/spire/api/server/logger/v1/logger_pb.ts';
import { LogLevel } from '../../proto/gen/spire/api/types/logger_pb.ts';
import { createLogger } from '../../runtime/log.ts';
import { CALL, RunningServer } from '../../test/fixtures/running-server.ts';

describe('loggerService', () => {
  const log = createLogger({ process: 'server', level: 'warn' }, { write: () => undefined });
  let server: RunningServer;
  before(async () => {
    server = await RunningServer.start({ log, config: { log: { level: 'warn' } } });
  });
  after(() => server[Symbol.asyncDispose]());
  const levels = (shown: { currentLevel: LogLevel; launchLevel: LogLevel }) => [
    shown.currentLevel,
    shown.launchLevel,
  ];

  it('changes the level of the running log, and puts it back', async () => {
    const rpc = server.admin(Logger);
    assert.deepEqual(levels(await rpc.getLogger({}, CALL)), [LogLevel.WARN, LogLevel.WARN]);
    const set = await rpc.setLogLevel({ newLevel: LogLevel.DEBUG }, CALL);
    assert.deepEqual(levels(set), [LogLevel.DEBUG, LogLevel.WARN]);
    assert.ok(log.isLevelEnabled('debug'));
    assert.deepEqual(levels(await rpc.getLogger({}, CALL)), [LogLevel.DEBUG, LogLevel.WARN]);
    assert.deepEqual(levels(await rpc.resetLogLevel({}, CALL)), [LogLevel.WARN, LogLevel.WARN]);
    assert.ok(!log.isLevelEnabled('info'));
    const told = (await server.events()).filter(({ type }) => type === 'server.log_level');
    assert.deepEqual(
      told.map(({ attributes }) => attributes.level),
      ['debug', 'warn'],
    );
  });

  it('refuses no level, and one that there is not', async () => {
    const set = (newLevel: LogLevel) => server.admin(Logger).setLogLevel({ newLevel }, CALL);
    await assert.rejects(set(LogLevel.UNSPECIFIED), { status: 'INVALID_ARGUMENT' });
    await assert.rejects(set(99 as LogLevel), { status: 'INVALID_ARGUMENT' });
  });

  it('is not served over TCP, nor are debug and health', async () => {
    const { channel } = await server.newAgent();
    const unimplemented = { status: 'UNIMPLEMENTED' };
    await assert.rejects(channel.client(Logger).getLogger({}, CALL), unimplemented);
    await assert.rejects(channel.client(Debug).getInfo({}, CALL), unimplemented);
    await assert.rejects(channel.client(Health).check({}, CALL), unimplemented);
  });
});
