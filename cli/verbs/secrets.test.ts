import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { writAt } from '../../test/fixtures/cli-at-server.ts';
import { RunningServer, temporaryDir } from '../../test/fixtures/running-server.ts';

const BACKEND = `kind: Backend
name: shop
type: postgres
environment: test
postgres:
  host: 127.0.0.1
  database: shop
  login: { user: writ_gateway, password_secret: shop-login }
`;

describe('writ secret', () => {
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

  const fileOf = (name: string, content: string) => {
    const file = join(directory.path, name);
    writeFileSync(file, content, { mode: 0o600 });
    return file;
  };

  it('takes a value from a file, and never from an argument', async () => {
    const put = (content: string) =>
      writAt(server, 'secret', 'put', 'shop-login', '--file', fileOf('password', content));
    assert.equal((await put('sesame\n')).out, '1');
    assert.equal((await put('open sesame')).out, '2');
    await assert.rejects(put('two\nlines'), { faultCode: 'INVALID_ARGUMENT' });
    await assert.rejects(put('x'.repeat(5000)), { faultCode: 'INVALID_ARGUMENT' });
    await assert.rejects(put(''), { code: 'USAGE', message: /password is empty$/ });
    await assert.rejects(put('x'.repeat(70_000)), {
      code: 'USAGE',
      message: /longer than 64 KiB$/,
    });
    await assert.rejects(
      writAt(server, 'secret', 'put', 'shop-login', '-f', join(directory.path, 'none')),
      { code: 'USAGE', message: /cannot be read/ },
    );
  });

  it('shows versions and who names them, and no value', async () => {
    await writAt(server, 'apply', '-f', fileOf('shop.yaml', BACKEND));
    const { out } = await writAt(server, 'secret', 'list', '--json');
    const rows = JSON.parse(out).map(
      ({ name, version, state, backends }: Record<string, string>) =>
        `${name} ${version} ${state} ${backends}`,
    );
    assert.deepEqual(rows, ['shop-login 2 current shop', 'shop-login 1 previous shop']);
    assert.ok(!out.includes('sesame'));
    const table = (await writAt(server, 'secret', 'list')).out;
    assert.match(table, /^NAME +VERSION +STATE +CREATED AT +KEY ID +BACKENDS$/m);
  });

  it('retires the version before, and deletes a secret that nobody names', async () => {
    await writAt(server, 'secret', 'retire', 'shop-login');
    assert.ok(!(await writAt(server, 'secret', 'list')).out.includes('previous'));
    const deleting = () => writAt(server, 'secret', 'delete', 'shop-login');
    await assert.rejects(deleting(), {
      faultCode: 'FAILED_PRECONDITION',
      message: 'backend shop names this secret',
    });
    const withFile = BACKEND.replace('password_secret: shop-login', 'password_file: /etc/shop');
    await writAt(server, 'apply', '-f', fileOf('shop.yaml', withFile));
    await deleting();
    assert.deepEqual(JSON.parse((await writAt(server, 'secret', 'list', '--json')).out), []);
  });

  it('is named by no backend before it is there', async () => {
    await assert.rejects(writAt(server, 'apply', '-f', fileOf('shop.yaml', BACKEND)), {
      faultCode: 'CONFIG_INVALID',
      message: /:8: postgres\.login\.password_secret: the vault has no secret shop-login/,
    });
  });
});
