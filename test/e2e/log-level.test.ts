import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Logger } from '../../proto/gen/spire/api/server/logger/v1/logger_pb.ts';
import { LogLevel } from '../../proto/gen/spire/api/types/logger_pb.ts';
import { RpcChannel } from '../../runtime/grpc-client.ts';
import { ownFolder, startOwnServer } from '../bench/own-processes.ts';
import { until } from '../fixtures/restarts.ts';

const CALL = { signal: new AbortController().signal };

describe('the level of the log', () => {
  it('follows the configuration at SIGHUP, and SPIRE logger calls until then', async () => {
    await using folder = await ownFolder();
    const stateDir = join(folder.path, 's');
    await using server = await startOwnServer({ stateDir });
    await using channel = RpcChannel.unix(server.adminSocket);
    const logger = channel.client(Logger);
    const levels = async () => {
      const { currentLevel, launchLevel } = await logger.getLogger({}, CALL);
      return [currentLevel, launchLevel];
    };
    assert.deepEqual(await levels(), [LogLevel.WARN, LogLevel.WARN]);
    await logger.setLogLevel({ newLevel: LogLevel.ERROR }, CALL);
    assert.deepEqual(await levels(), [LogLevel.ERROR, LogLevel.WARN]);

    const file = join(stateDir, 'server.yaml');
    const text = await readFile(file, 'utf8');
    await writeFile(file, text.replace('level: warn', 'level: info'));
    process.kill(server.pid, 'SIGHUP');
    const isInfo = async () => (await levels()).every((level) => level === LogLevel.INFO);
    await until(isInfo, 10_000, 'the level is info');

    await writeFile(file, text.replace('level: warn', 'level: loud'));
    process.kill(server.pid, 'SIGHUP');
    await writeFile(file, text.replace('level: warn', 'level: error'));
    process.kill(server.pid, 'SIGHUP');
    const isError = async () => (await levels()).every((level) => level === LogLevel.ERROR);
    await until(isError, 10_000, 'a file that was wrong in between has ended nothing');
  }).timeout(60_000);
});
