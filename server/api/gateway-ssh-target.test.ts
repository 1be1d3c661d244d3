import assert from 'node:assert/strict';
import type { KeyObject } from 'node:crypto';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { opensshPrivateKey } from '../../identity/ssh/private-key.ts';
import { publicKeyLine } from '../../identity/ssh/public-key.ts';
import { ResourceService, SshService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { documents } from '../../test/fixtures/access-world.ts';
import { CALL, temporaryDir } from '../../test/fixtures/running-server.ts';
import { RunningSsh } from '../../test/fixtures/running-ssh.ts';
import { SSH_BACKEND, sshGrantYaml } from '../../test/fixtures/ssh-access.ts';
import { requireSshd, startTestSshd, type TestSshd } from '../../test/fixtures/ssh-target.ts';
import { newSshKey } from '../../test/fixtures/ssh-world.ts';
import { type Outcome, runProgram } from '../../test/fixtures/writ-up.ts';

describe('gatewaySshService, at a real sshd', () => {
  let ssh: RunningSsh;
  let target: TestSshd;
  let known: string;
  before(async function () {
    requireSshd(this);
    ssh = await RunningSsh.start();
    const admin = ssh.server.admin(SshService);
    const { gateway, host } = await admin.listSshAuthorities({}, CALL);
    const enrol = (publicKey: Uint8Array) =>
      admin.signHostCertificate({ backend: 'web-1', publicKey }, CALL);
    const { principals } = await enrol(newSshKey().publicKey);
    target = await startTestSshd({
      certify: async (publicKey) => (await enrol(publicKey)).certificate,
      authorities: gateway,
      principals: principals.deploy?.principals ?? [],
    });
    known = host.map((key) => `@cert-authority web-1 ${publicKeyLine(key)}`).join('\n');
  });
  after(async () => {
    await target?.[Symbol.asyncDispose]();
    await ssh?.[Symbol.asyncDispose]();
  });

  /** Logs in at the target with a certificate, in its gateway's place. */
  const login = async (
    { key, certificate }: { readonly key: KeyObject; readonly certificate: Uint8Array },
    program = 'ssh',
    args: readonly string[] = ['true'],
  ): Promise<Outcome> => {
    using dir = temporaryDir();
    const write = async (name: string, text: string) => {
      const path = join(dir.path, name);
      await writeFile(path, text, { mode: 0o600 });
      return path;
    };
    const options = {
      IdentityFile: await write('key', opensshPrivateKey(key)),
      CertificateFile: await write('key-cert.pub', `${publicKeyLine(certificate)}\n`),
      UserKnownHostsFile: await write('known', `${known}\n`),
      ...{ HostKeyAlias: 'web-1', StrictHostKeyChecking: 'yes', BatchMode: 'yes' },
      ...{ IdentityAgent: 'none', IdentitiesOnly: 'yes', LogLevel: 'ERROR' },
    };
    const settings = Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
    const where = [`-oPort=${target.port}`, `-oUser=${target.account}`, '127.0.0.1'];
    return await runProgram(program, ['-F', 'none', ...settings, ...where, ...args]);
  };
  const signed = async (sessionId: string) => {
    const { key, publicKey } = newSshKey();
    const { certificate } = await ssh.gateway.signSshCertificate({ sessionId, publicKey }, CALL);
    return { key, certificate };
  };

  it('S2 opens the account that lists backend and login, on a host certified for the backend', async () => {
    const outcome = await login(await signed(await ssh.openSession()), 'ssh', ['id', '-un']);
    assert.deepEqual([outcome.status, outcome.stdout], [0, `${target.account}\n`], outcome.stderr);
  });

  it("S2 no workload's own certificate opens the target: only gateways' do", async () => {
    const { key, publicKey } = newSshKey();
    const { certificate } = await ssh.signUser(publicKey);
    const outcome = await login({ key, certificate });
    assert.deepEqual([outcome.status, outcome.stdout], [255, '']);
    assert.match(outcome.stderr, /Permission denied/);
  });

  it('S2 a login of another backend does not open the target', async () => {
    const [backend, grant] = [SSH_BACKEND, sshGrantYaml('release-2', {})].map((text) =>
      text.replace(/web-1$/m, 'web-2'),
    );
    const content = documents(backend ?? '', grant ?? '');
    const files = [{ name: 'web-2.yaml', content }];
    await ssh.server.admin(ResourceService).apply({ files }, CALL);
    const outcome = await login(await signed(await ssh.openSession({ backend: 'web-2' })));
    assert.deepEqual([outcome.status, outcome.stdout], [255, '']);
    assert.match(outcome.stderr, /Permission denied/);
  });

  it('a login that may only transfer files runs nothing else, whatever its holder asks', async () => {
    const touch = async (name: string) => {
      const file = join(target.directory, name);
      const { status, stderr } = await login(await signed(await ssh.openSession()), 'ssh', [
        `touch ${file}`,
      ]);
      assert.notEqual(status, 255, stderr);
      return existsSync(file);
    };
    assert.equal(await touch('by-exec'), true);
    const narrow = sshGrantYaml('release', { ssh: 'logins: [deploy], channels: { sftp: true }' });
    const files = [{ name: 'ssh.yaml', content: documents(SSH_BACKEND, narrow) }];
    await ssh.server.admin(ResourceService).apply({ files }, CALL);
    assert.equal(await touch('by-sftp'), false);
    const certified = await signed(await ssh.openSession());
    const subsystem = await login(certified, 'ssh', ['-s', 'sftp']);
    assert.equal(subsystem.status, 0, subsystem.stderr);
  });
});
