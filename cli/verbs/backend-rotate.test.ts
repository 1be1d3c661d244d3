import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { writAt } from '../../test/fixtures/cli-at-server.ts';
import { RunningServer, temporaryDir } from '../../test/fixtures/running-server.ts';

const backend = (login: string) => `kind: Backend
name: shop
type: postgres
environment: test
postgres:
  host: 127.0.0.1
  database: shop
  login: { user: writ_gateway, ${login} }
`;

describe('writ backend rotate', () => {
  let server: RunningServer;
  let directory: ReturnType<typeof temporaryDir>;
  before(async () => {
    directory = temporaryDir();
    server = await RunningServer.start();
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
    directory[Symbol.dispose]();
  });

  const apply = async (login: string) => {
    const file = join(directory.path, 'shop.yaml');
    writeFileSync(file, backend(login));
    await writAt(server, 'apply', '-f', file);
  };
  const rotate = (...flags: readonly string[]) =>
    writAt(server, 'backend', 'rotate', 'shop', ...flags);

  it('refuses a backend that is not there, or whose login is no secret of the vault', async () => {
    await assert.rejects(rotate(), { faultCode: 'NOT_FOUND' });
    await apply('password_file: /etc/writ/shop.password');
    await assert.rejects(rotate(), {
      faultCode: 'FAILED_PRECONDITION',
      message: /no secret of the vault/,
    });
    await assert.rejects(rotate('--status'), { faultCode: 'NOT_FOUND' });
  });

  it('takes rotate_every of a secret of the vault alone', async () => {
    await assert.rejects(apply('password_file: /etc/writ/shop.password, rotate_every: 30d'), {
      faultCode: 'CONFIG_INVALID',
      message: /rotate_every with password_secret alone/,
    });
    const file = join(directory.path, 'password');
    writeFileSync(file, 'sesame');
    await writAt(server, 'secret', 'put', 'shop-login', '--file', file);
    await assert.rejects(apply('password_secret: shop-login, rotate_every: 1m'), {
      message: /at least 1h/,
    });
    await apply('password_secret: shop-login, rotate_every: 30d');
  });
});
