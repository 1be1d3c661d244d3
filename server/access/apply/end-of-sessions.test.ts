import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { encodePublicKey, publicKeyLine } from '../../../identity/ssh/public-key.ts';
import {
  AccessWorld,
  BACKEND,
  documents,
  grantYaml,
  OPERATOR,
} from '../../../test/fixtures/access-world.ts';
import { SSH_BACKEND, sshGrantYaml } from '../../../test/fixtures/ssh-access.ts';

const newLine = () => publicKeyLine(encodePublicKey(generateKeyPairSync('ed25519').publicKey));
const [ONE, OTHER] = [newLine(), newLine()];

describe('endOfSessions, by what apply revokes', () => {
  let world: AccessWorld;
  beforeEach(async () => {
    world = await AccessWorld.create();
  });

  const revoked = async () =>
    (await world.revocations.since(0n)).map(({ cause, subject }) => [
      cause,
      subject?.subject.case,
      subject?.subject.value,
    ]);

  const changed = async (before: string, after: string) => {
    await world.apply(before);
    assert.deepEqual(await revoked(), []);
    const [change] = await world.apply(after);
    assert.equal(change?.action, 'updated');
    return revoked();
  };

  describe('of an SSH grant', () => {
    const WIDE = 'logins: [deploy, admin], channels: { shell: true, exec: true, sftp: true }';
    const SOME = 'logins: [deploy], channels: { exec: [[uptime], [df, -h]] }';
    const changes: readonly [what: string, before: string, after: string][] = [
      ['a login', WIDE, WIDE.replace(', admin', '')],
      ['the shell', WIDE, WIDE.replace('shell: true', 'shell: false')],
      ['exec', WIDE, WIDE.replace('exec: true', 'exec: false')],
      ['all commands but some', WIDE, WIDE.replace('exec: true', 'exec: [[uptime]]')],
      ['sftp', WIDE, WIDE.replace('sftp: true', 'sftp: false')],
      ['a command', SOME, SOME.replace(', [df, -h]', '')],
      ['a word of a command', SOME, SOME.replace(', -h', '')],
    ];
    for (const [what, before, after] of changes) {
      it(`ends them if it loses ${what}`, async () => {
        const file = (ssh: string) => documents(sshGrantYaml('g', { ssh }), SSH_BACKEND);
        assert.deepEqual(await changed(file(before), file(after)), [
          ['grant.update', 'grant', 'g'],
        ]);
      });
    }

    const wider: readonly [what: string, after: string][] = [
      ['a command', SOME.replace('[uptime]', '[uptime], [who]')],
      ['all commands', SOME.replace('[[uptime], [df, -h]]', 'true')],
      ['a login, the shell and sftp', WIDE],
    ];
    for (const [what, after] of wider) {
      it(`leaves them alone if it gains ${what}`, async () => {
        const file = (ssh: string) => documents(sshGrantYaml('g', { ssh }), SSH_BACKEND);
        assert.deepEqual(await changed(file(SOME), file(after)), []);
      });
    }
  });

  describe('of a PostgreSQL backend that leaves it to the gateway', () => {
    const until = (time: string) =>
      documents(
        `${BACKEND.trimEnd()}
  enforce: gateway
  exception: { owner: dba@example.org, reason: the vendor's, expires_at: ${time} }`,
      );
    const [SOON, LATER] = ['2098-01-01T00:00:00Z', '2099-01-01T00:00:00Z'];
    const ended = [['backend.update', 'backend', 'shop']];

    it('ends them if its exception ends sooner', async () => {
      assert.deepEqual(await changed(until(LATER), until(SOON)), ended);
    });

    it('leaves them alone if its exception ends later', async () => {
      assert.deepEqual(await changed(until(SOON), until(LATER)), []);
    });

    it('ends them if the database enforces from now on, or no more', async () => {
      assert.deepEqual(await changed(until(SOON), documents(BACKEND)), ended);
      world = await AccessWorld.create();
      assert.deepEqual(await changed(documents(BACKEND), until(SOON)), ended);
    });
  });

  describe('of a PostgreSQL backend', () => {
    const file = (settings: string) => documents(`${BACKEND.trimEnd()}\n${settings}`);
    const cases: readonly [what: string, before: string, after: string, ends: boolean][] = [
      ['allows a setting no more', '  settings_allowed: [app.locale]', '', true],
      ['allows one more', '', '  settings_allowed: [app.locale]', false],
      ['has a ceiling', '', '  setting_ceilings: { lock_timeout: 30s }', true],
      [
        'has a lower ceiling',
        '  setting_ceilings: { work_mem: 64MB }',
        '  setting_ceilings: { work_mem: 32MB }',
        true,
      ],
      ['has a higher ceiling', '', '  setting_ceilings: { work_mem: 1GB }', false],
      ['has a ceiling no more', '  setting_ceilings: { lock_timeout: 30s }', '', false],
      ['has no higher ceiling', '  setting_ceilings: { work_mem: 1GB }', '', true],
    ];
    for (const [what, before, after, ends] of cases) {
      it(`${ends ? 'ends them' : 'leaves them alone'} if it ${what}`, async () => {
        const expected = ends ? [['backend.update', 'backend', 'shop']] : [];
        assert.deepEqual(await changed(file(before), file(after)), expected);
      });
    }
  });

  describe('of an SSH backend', () => {
    const with1 = SSH_BACKEND.replace('host_ca: trust-domain', `host_key: ${ONE}`);
    const withBoth = SSH_BACKEND.replace('host_ca: trust-domain', `host_key: [${ONE}, ${OTHER}]`);
    const from = (text: string, to: string) => SSH_BACKEND.replace(text, to);
    const changes: readonly [what: string, before: string, after: string][] = [
      ['has another host', SSH_BACKEND, from('web-1.internal', 'web-2.internal')],
      ['has another port', SSH_BACKEND, from('web-1.internal', 'web-1.internal:2222')],
      ['has host keys in place of the host CA', SSH_BACKEND, with1],
      ['has the host CA in place of host keys', with1, SSH_BACKEND],
      ['loses a host key', withBoth, with1],
      ['has another host key', with1, with1.replace(ONE, OTHER)],
      ['loses a login', SSH_BACKEND, from(', admin: { account: root }', '')],
      ["changes a login's account", SSH_BACKEND, from('account: root', 'account: wheel')],
    ];
    for (const [what, before, after] of changes) {
      it(`ends them if it ${what}`, async () => {
        assert.deepEqual(await changed(before, after), [['backend.update', 'backend', 'web-1']]);
      });
    }

    const harmless: readonly [what: string, before: string, after: string][] = [
      ['gains a host key', with1, withBoth],
      ['gains a login', SSH_BACKEND, from('deploy: {}', 'deploy: {}, audit: {}')],
      ['is of another environment', SSH_BACKEND, from('environment: test', 'environment: prod')],
    ];
    for (const [what, before, after] of harmless) {
      it(`leaves them alone if it ${what}`, async () => {
        assert.deepEqual(await changed(before, after), []);
      });
    }

    it('takes the same host keys in another order, or their default port, for no change', async () => {
      await world.apply(withBoth);
      const turned = withBoth.replace(`[${ONE}, ${OTHER}]`, `[${OTHER}, ${ONE}]`);
      const [change] = await world.apply(turned.replace('web-1.internal', 'web-1.internal:22'));
      assert.deepEqual(change?.differences, []);
    });

    it('ends them with the backend, and when it becomes one of another type', async () => {
      await world.apply(SSH_BACKEND);
      await world.apply(BACKEND.replace('name: shop', 'name: web-1'));
      await world.applier.delete('Backend', 'web-1', OPERATOR);
      assert.deepEqual(await revoked(), [
        ['backend.update', 'backend', 'web-1'],
        ['backend.delete', 'backend', 'web-1'],
      ]);
    });
  });

  it('ends the sessions of a grant that another backend, changed too, has the name of', async () => {
    const other = SSH_BACKEND.replace('name: web-1', 'name: reads');
    const columns = 'kind: Columns\nname: c\nbackend: shop\ntables: { public.orders: { a: k } }\n';
    const masked = documents('kind: ColumnClass\nname: k\nmask: full\n', columns);
    await world.apply(documents(BACKEND, grantYaml('reads', {}), other, masked));
    const moved = other.replace('web-1.internal', 'web-2.internal');
    await world.apply(documents(moved, masked.replace('mask: full', 'mask: last4')));
    assert.deepEqual(await revoked(), [
      ['backend.update', 'backend', 'reads'],
      ['grant.update', 'grant', 'reads'],
    ]);
  });
});
