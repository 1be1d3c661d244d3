import assert from 'node:assert/strict';
import { chmod, copyFile, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasProgram, skipWithout } from '../../test/fixtures/programs.ts';
import { SshAgentWorld, sshEntry } from '../../test/fixtures/ssh-agent-world.ts';

const uid = { type: 'unix', value: `uid:${process.getuid?.()}` };
const NOBODY = 65_534;

describe('ssh-add at the ssh-agent socket', () => {
  let world: SshAgentWorld;
  before(async function () {
    if (!hasProgram('ssh-add')) skipWithout(this, 'ssh-add');
    world = await SshAgentWorld.start();
  });
  after(() => world?.[Symbol.asyncDispose]());
  beforeEach(async () => {
    world.server.setEntries([
      sshEntry('anyone'),
      sshEntry('script', { selectors: [uid, { type: 'unix', value: `path:${world.program}` }] }),
    ]);
    await world.untilOffered('anyone');
  });

  it('gives ssh-add the identity of the script that runs it, before those of its user', async () => {
    const script = join(world.directory, 'deploy');
    await writeFile(script, `#!${world.program}\nssh-add -L\n:\n`, { mode: 0o755 });
    const { stdout } = await world.run([script]);
    const lines = stdout.trim().split('\n');
    assert.deepEqual(
      lines.map((line) => line.split(' ').at(-1)),
      ['spiffe://example.org/script', 'spiffe://example.org/anyone'],
    );
    assert.match(lines[0] ?? '', /^ssh-ed25519-cert-v01@openssh\.com AAAA/);
    const listed = await world.run([world.program, '-c', 'ssh-add -l; :']);
    assert.match(listed.stdout, /^256 SHA256:\S+ spiffe:\/\/example\.org\/script \(ED25519-CERT\)/);
  });

  it('gives the identity to a program further down', async () => {
    const { stdout } = await world.run([
      world.program,
      '-c',
      'sh -c \'sh -c "ssh-add -L; :"; :\'; :',
    ]);
    assert.match(stdout, /example\.org\/script/);
  });

  it('gives nothing of a program that has not started the client', async () => {
    const { stdout } = await world.run(['sh', '-c', 'ssh-add -L; :']);
    assert.doesNotMatch(stdout, /example\.org\/script/);
    assert.match(stdout, /example\.org\/anyone/);
  });

  it('gives nothing of a program that has died', async () => {
    const orphan = join(world.directory, 'orphan');
    const script = join(world.directory, 'orphan.sh');
    const waiting = 'while kill -0 "$1" 2>/dev/null; do sleep 0.05; done';
    await writeFile(script, `${waiting}\nssh-add -L >"$2.new"\nmv "$2.new" "$2"\n`);
    await world.run([world.program, '-c', `sh ${script} $$ ${orphan} >/dev/null 2>&1 & exit`]);
    for (let n = 0; n < 200 && (await stat(orphan).catch(() => undefined)) === undefined; n++)
      await sleep(25);
    const stdout = await readFile(orphan, 'utf8');
    assert.match(stdout, /example\.org\/anyone/);
    assert.doesNotMatch(stdout, /example\.org\/script/);
  });

  it('gives another user nothing of a program that has started it', async function () {
    if (process.getuid?.() !== 0 || !hasProgram('setpriv'))
      skipWithout(this, 'root and setpriv, to run as another user');
    const drop = `setpriv --reuid=${NOBODY} --regid=${NOBODY} --clear-groups ssh-add -L; :`;
    const { stdout } = await world.run([world.program, '-c', drop]);
    assert.equal(stdout.trim(), 'The agent has no identities.');
  });

  it('gives a set-user-ID program nothing of who has started it', async function () {
    if (process.getuid?.() !== 0 || !hasProgram('setpriv'))
      skipWithout(this, 'root and setpriv, to run as another user');
    const trusted = join(world.directory, 'trusted');
    await copyFile('/usr/bin/timeout', trusted);
    await chmod(trusted, 0o4755);
    world.server.setEntries([
      sshEntry('trusted', { selectors: [{ type: 'unix', value: `path:${trusted}` }] }),
    ]);
    await world.untilOffered();
    const run = [trusted, '20', 'ssh-add', '-L'];
    assert.match((await world.run(run)).stdout, /example\.org\/trusted/);
    const drop = ['setpriv', `--reuid=${NOBODY}`, `--clear-groups`, ...run];
    assert.equal((await world.run(drop)).stdout.trim(), 'The agent has no identities.');
  });
});
