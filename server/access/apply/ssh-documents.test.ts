import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { encodePublicKey, publicKeyLine } from '../../../identity/ssh/public-key.ts';
import { Fault } from '../../../runtime/fault.ts';
import { AccessWorld, BACKEND, documents, grantYaml } from '../../../test/fixtures/access-world.ts';
import { hostCertificate, SSH_BACKEND, sshGrantYaml } from '../../../test/fixtures/ssh-access.ts';
import { findBackend, listGrants } from '../resources.ts';

const newKey = () => encodePublicKey(generateKeyPairSync('ed25519').publicKey);
const KEYS = [newKey(), newKey()].sort(Buffer.compare);
const [ONE = '', OTHER = ''] = KEYS.map((key) => publicKeyLine(key));

describe('documents of backends of type ssh, and of grants on them', () => {
  let world: AccessWorld;
  beforeEach(async () => {
    world = await AccessWorld.create();
  });

  const problems = async (...parts: readonly string[]): Promise<string[]> => {
    const error = await world.apply(documents(...parts), { dryRun: true }).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    if (error === undefined) return [];
    assert.ok(error instanceof Fault && error.code === 'CONFIG_INVALID', String(error));
    return error.message.split('\n');
  };

  const backend = (from: string, to: string) => SSH_BACKEND.replace(from, to);

  describe('a backend', () => {
    const applied = async (yaml: string) => {
      await world.apply(yaml);
      const found = await findBackend(world.store, 'web-1');
      return found?.type.case === 'ssh' ? found.type.value : assert.fail('no SSH backend');
    };

    it('gives each login its own name as the account unless it says another', async () => {
      const { logins, hostKeys } = await applied(SSH_BACKEND);
      assert.deepEqual(logins, { deploy: 'deploy', admin: 'root' });
      assert.deepEqual(hostKeys, []);
    });

    const addresses: readonly [string, string, number][] = [
      ['web-1.internal', 'web-1.internal', 22],
      ['web-1.internal:2222', 'web-1.internal', 2222],
      ['192.0.2.1', '192.0.2.1', 22],
      ['"[2001:db8::1]"', '2001:db8::1', 22],
      ['"[2001:db8::1]:65535"', '2001:db8::1', 65_535],
    ];
    for (const [text, host, port] of addresses) {
      it(`takes the address ${text}`, async () => {
        const found = await applied(backend('web-1.internal', text));
        assert.deepEqual([found.host, found.port], [host, port]);
      });
    }

    it('S2 refuses the name of a host that is a gateway, for which its target could pass', async () => {
      await world.run('update gateways set names = ?', JSON.stringify(['192.0.2.9', 'web-1']));
      const [problem, ...more] = await problems(SSH_BACKEND);
      assert.match(problem ?? '', /:3: name: web-1 is a gateway's host$/);
      assert.deepEqual(more, []);
      assert.deepEqual(await problems(SSH_BACKEND.replace('web-1', 'web-2')), []);
      assert.deepEqual(await problems(BACKEND.replace('name: shop', 'name: web-1')), []);
    });

    it('takes one host key or a list of them, in any order', async () => {
      const one = await applied(backend('host_ca: trust-domain', `host_key: ${ONE} a comment`));
      assert.deepEqual(one.hostKeys.map(Buffer.from), KEYS.slice(0, 1));
      const list = backend('host_ca: trust-domain', `host_key: [${OTHER}, ${ONE}]`);
      assert.deepEqual((await applied(list)).hostKeys.map(Buffer.from), KEYS);
    });

    const wrong: readonly [what: string, yaml: string, expected: RegExp][] = [
      [
        'an address without host',
        backend('web-1.internal', '":22"'),
        /^shop.yaml:7: ssh.address: /,
      ],
      ['port 0', backend('web-1.internal', 'web-1:0'), /^shop.yaml:7: ssh.address: /],
      ['a port beyond the last', backend('web-1.internal', 'web-1:65536'), /ssh.address: /],
      ['a bare IPv6 address', backend('web-1.internal', '"::1"'), /ssh.address: .*\[IPv6\]:port/],
      ['an IPv4 address in brackets', backend('web-1.internal', '"[192.0.2.1]"'), /ssh.address: /],
      ['a user in the address', backend('web-1.internal', 'root@web-1'), /ssh.address: /],
      ['an address of two ports', backend('web-1.internal', 'web-1:1:2'), /ssh.address: /],
      [
        'neither host_ca nor host_key',
        backend('  host_ca: trust-domain\n', ''),
        /^shop.yaml:6: ssh: expected either host_ca or host_key, one of them/,
      ],
      [
        'both of them',
        backend('host_ca: trust-domain', `host_ca: trust-domain\n  host_key: ${ONE}`),
        /^shop.yaml:6: ssh: expected either host_ca or host_key, one of them/,
      ],
      [
        'another host CA',
        backend('trust-domain', 'other.pub'),
        /^shop.yaml:8: ssh.host_ca: expected trust-domain, got "other.pub"$/,
      ],
      [
        'a host key that is none',
        backend('host_ca: trust-domain', 'host_key: ssh-ed25519 AAAA'),
        /^shop.yaml:8: ssh.host_key: expected a host's public key/,
      ],
      [
        'a host key of another type than its line says',
        backend('host_ca: trust-domain', `host_key: ${ONE.replace('ed25519', 'rsa')}`),
        /^shop.yaml:8: ssh.host_key: expected a host's public key/,
      ],
      [
        'no host key at all',
        backend('host_ca: trust-domain', 'host_key: []'),
        /^shop.yaml:8: ssh.host_key: expected at least one key/,
      ],
      [
        'one host key twice',
        backend('host_ca: trust-domain', `host_key:\n  - ${ONE}\n  - ${ONE} again`),
        /^shop.yaml:8: ssh.host_key: expected each once/,
      ],
      [
        'a list with one bad host key',
        backend('host_ca: trust-domain', `host_key:\n  - ${ONE}\n  - nothing`),
        /^shop.yaml:10: ssh.host_key.1: expected a host's public key/,
      ],
      [
        'no logins',
        backend('  logins: { deploy: {}, admin: { account: root } }\n', ''),
        /^shop.yaml:6: ssh.logins: expected this key, got nothing$/,
      ],
      [
        'an empty map of logins',
        backend('{ deploy: {}, admin: { account: root } }', '{}'),
        /^shop.yaml:9: ssh.logins: expected at least one login/,
      ],
      [
        'a login in capitals',
        backend('deploy: {}', 'Deploy: {}'),
        /^shop.yaml:9: ssh.logins.Deploy: expected a login: 1 to 32 of/,
      ],
      [
        'a login that begins with an option',
        backend('deploy: {}', '-oProxyCommand: {}'),
        /^shop.yaml:9: ssh.logins.-oProxyCommand: expected a login/,
      ],
      ['a login of 33', backend('deploy: {}', `${'d'.repeat(33)}: {}`), /expected a login/],
      [
        'a login that a record would drop without a word',
        backend('deploy: {}', '__proto__: {}'),
        /^shop.yaml:9: ssh.logins.__proto__: expected no login named __proto__,/,
      ],
      [
        'an account that is none',
        backend('account: root', 'account: a/b'),
        /^shop.yaml:9: ssh.logins.admin.account: expected a login/,
      ],
      [
        'an unknown key of a login',
        backend('account: root', 'shell: bash'),
        /^shop.yaml:9: ssh.logins.admin.shell: expected no such key/,
      ],
      [
        'an unknown key',
        backend('host_ca:', 'jump: x\n  host_ca:'),
        /^shop.yaml:8: ssh.jump: expected no such key/,
      ],
      [
        'the fields of another type',
        BACKEND.replace('type: postgres', 'type: ssh'),
        /^shop.yaml:6: postgres: expected no such key/,
      ],
    ];
    for (const [what, yaml, expected] of wrong) {
      it(`is refused with ${what}`, async () => {
        const lines = await problems(yaml);
        assert.ok(lines.length > 0, 'it was taken');
        assert.ok(
          lines.some((line) => expected.test(line)),
          lines.join('\n'),
        );
      });
    }
  });

  describe('a grant', () => {
    const applied = async (ssh: string) => {
      await world.apply(documents(SSH_BACKEND, sshGrantYaml('g', { ssh })));
      const [grant] = await listGrants(world.store);
      if (grant?.rights.case !== 'ssh') return assert.fail('no SSH grant');
      const { logins, shell, exec, commands, sftp } = grant.rights.value;
      return { logins, shell, exec, commands, sftp };
    };

    const rights: readonly [string, string, object][] = [
      ['shell, exec and sftp if it names no channels', '', { shell: true, exec: true, sftp: true }],
      ['what it names alone', 'channels: { shell: true }', { shell: true }],
      ['every command', 'channels: { exec: true, shell: false }', { exec: true }],
      [
        'commands as lines of their words',
        'channels: { exec: [[systemctl, restart, shop], [/bin/x, --a=b@c%d+e:f]], sftp: true }',
        { commands: ['systemctl restart shop', '/bin/x --a=b@c%d+e:f'], sftp: true },
      ],
    ];
    const NONE = { shell: false, exec: false, commands: [], sftp: false };
    for (const [what, more, expected] of rights) {
      it(`gives ${what}`, async () => {
        const found = await applied(`logins: [deploy], ${more}`);
        assert.deepEqual(found, { ...NONE, logins: ['deploy'], ...expected });
      });
    }

    const RIGHTS_LINE = 21;
    const wrong: readonly [what: string, ssh: string, expected: RegExp][] = [
      ['no login', 'logins: []', /: ssh.logins: expected at least one login/],
      ['no logins', 'channels: { shell: true }', /: ssh.logins: expected this key, got nothing$/],
      ['a login twice', 'logins: [deploy, deploy]', /: ssh.logins: expected each login once/],
      ['a login that is none', 'logins: ["*"]', /: ssh.logins.0: expected a login/],
      [
        'a login that the backend does not declare',
        'logins: [deploy, root]',
        /: ssh.logins.1: backend web-1 has no login root$/,
      ],
      [
        "a login by the name of an object's own",
        'logins: [constructor]',
        /: ssh.logins.0: backend web-1 has no login constructor$/,
      ],
      ['no channel', 'logins: [deploy], channels: {}', /: ssh.channels: expected at least one of/],
      [
        'channels that are all false',
        'logins: [deploy], channels: { shell: false, exec: false, sftp: false }',
        /: ssh.channels: expected at least one of/,
      ],
      [
        'a channel that is none',
        'logins: [deploy], channels: { x11: true }',
        /: ssh.channels.x11: expected no such key/,
      ],
      [
        'an empty list of commands',
        'logins: [deploy], channels: { exec: [] }',
        /: ssh.channels.exec: expected at least one command/,
      ],
      [
        'a command without words',
        'logins: [deploy], channels: { exec: [[]] }',
        /: ssh.channels.exec.0: expected the words of a command/,
      ],
      [
        'a command as one text',
        'logins: [deploy], channels: { exec: [uptime] }',
        /: ssh.channels.exec.0: expected a list, got "uptime"$/,
      ],
      [
        'a command for a shell',
        'logins: [deploy], channels: { exec: [[uptime, ";", reboot]] }',
        /: ssh.channels.exec.0.1: expected a plain word/,
      ],
      [
        'an empty word',
        'logins: [deploy], channels: { exec: [[uptime, ""]] }',
        /: ssh.channels.exec.0.1: expected a plain word/,
      ],
      [
        'a word with a space',
        'logins: [deploy], channels: { exec: [[uptime, "a b"]] }',
        /: ssh.channels.exec.0.1: expected a plain word/,
      ],
      [
        'a command twice',
        'logins: [deploy], channels: { exec: [[uptime], [uptime]] }',
        /: ssh.channels.exec: expected each command once/,
      ],
      [
        'exec as a text',
        'logins: [deploy], channels: { exec: "yes" }',
        /: ssh.channels.exec: expected true, false or a list of commands/,
      ],
      [
        'limits on sftp, which are not built yet',
        'logins: [deploy], channels: { sftp: { write: [/srv/shop] } }',
        /: ssh.channels.sftp: expected true or false \(limits on paths are not supported by this/,
      ],
      [
        'approval, which is not built yet',
        'logins: [deploy], approval: { for: [shell], by: group:oncall }',
        /: ssh.approval: expected no approval, which is not supported by this version/,
      ],
    ];
    for (const [what, ssh, expected] of wrong) {
      it(`is refused with ${what}, by file, line and path`, async () => {
        const [line = '', ...more] = await problems(SSH_BACKEND, sshGrantYaml('g', { ssh }));
        assert.deepEqual(more, []);
        assert.match(line, expected);
        assert.match(line, new RegExp(`^shop.yaml:${RIGHTS_LINE}: `));
      });
    }

    it('is refused with a limit on rows, which a login does not have', async () => {
      const yaml = sshGrantYaml('g', { session: 'maximum: 1h, rows: 5' });
      const [line = '', ...more] = await problems(SSH_BACKEND, yaml);
      assert.deepEqual(more, []);
      assert.match(line, /: session.rows: expected no such key/);
    });

    it('is refused with rights of two types, and with none', async () => {
      const both = `${sshGrantYaml('g')}postgres: { select: [public.orders] }\n`;
      const two = await problems(SSH_BACKEND, both);
      assert.match(two.join(), /: ssh: expected rights of one type, postgres or ssh, got both$/);
      const none = await problems(SSH_BACKEND, sshGrantYaml('g').replace(/^ssh:.*$/m, ''));
      assert.deepEqual(none, ['shop.yaml:13: expected rights, under postgres or ssh, got none']);
    });

    it('is refused on a backend of another type, and so is one of that type here', async () => {
      const onShop = sshGrantYaml('g').replace('web-1', 'shop');
      assert.deepEqual(
        (await problems(BACKEND, onShop)).map((line) => line.replace(/^.*?: /, '')),
        ['ssh: backend shop is of type postgres: expected postgres rights'],
      );
      const onWeb = grantYaml('g', {}).replace('backend: shop', 'backend: web-1');
      assert.deepEqual(
        (await problems(SSH_BACKEND, onWeb)).map((line) => line.replace(/^.*?: /, '')),
        ['postgres: backend web-1 is of type ssh: expected ssh rights'],
      );
    });
  });

  it('refuses a host certificate in place of a host key', async () => {
    const line = publicKeyLine(hostCertificate(world, 'web-1'));
    const lines = await problems(backend('host_ca: trust-domain', `host_key: ${line}`));
    assert.equal(lines.length, 1);
    assert.match(lines[0] ?? '', /ssh.host_key: expected a host's public key/);
  });

  it('refuses columns of a backend that has none', async () => {
    const columns = 'kind: Columns\nname: c\nbackend: web-1\ntables: {}\n';
    const lines = await problems(SSH_BACKEND, columns);
    assert.equal(lines.length, 1);
    assert.match(lines[0] ?? '', /: backend: backend web-1 is of type ssh: no columns$/);
  });

  it('refuses a backend that takes from a stored grant what it names', async () => {
    await world.apply(documents(SSH_BACKEND, sshGrantYaml('g')));
    assert.deepEqual(await problems(backend('deploy: {}, ', '')), [
      'stored Grant g: ssh.logins.0: backend web-1 has no login deploy',
    ]);
    assert.deepEqual(await problems(BACKEND.replace('name: shop', 'name: web-1')), [
      'stored Grant g: ssh: backend web-1 is of type postgres: expected postgres rights',
    ]);
  });
});
