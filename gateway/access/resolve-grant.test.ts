import assert from 'node:assert/strict';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { SnapshotSchema } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import type { GrantSchema } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { liveSshGrants, printable, resolveGrant, shown } from './resolve-grant.ts';
import { readSnapshot } from './snapshot.ts';

const NOW = new Date('2026-03-01T12:00:00Z');
const WEB = 'spiffe://example.org/web';

function snapshotWith(...grants: MessageInitShape<typeof GrantSchema>[]) {
  const expiresAt = timestampFromDate(new Date(NOW.getTime() + 60_000));
  return readSnapshot(
    create(SnapshotSchema, {
      revision: 1n,
      backends: [
        { name: 'orders-db' },
        {
          name: 'shop',
          type: {
            case: 'postgres',
            value: {
              database: 'shop_db',
              databases: { billing: 'billing_db', shop_db: 'odd' },
              serverNames: ['shop.internal'],
            },
          },
        },
        { name: 'web-1', type: { case: 'ssh', value: {} } },
        { name: 'web-2', type: { case: 'ssh', value: {} } },
      ],
      grants: grants.map((grant) => ({
        identity: WEB,
        backend: 'orders-db',
        expiresAt,
        ...grant,
      })),
    }),
  );
}

/** A grant on web-1. */
function sshGrant(name: string, ...logins: string[]): MessageInitShape<typeof GrantSchema> {
  return { name, backend: 'web-1', rights: { case: 'ssh', value: { logins, shell: true } } };
}

const wish = { backend: 'orders-db', grant: '', spiffeId: WEB };

function messageOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    assert.ok(error instanceof Fault);
    assert.equal(error.code, 'PERMISSION_DENIED');
    return error.message;
  }
  return assert.fail('nothing was thrown');
}

describe('resolveGrant', () => {
  it('takes the one grant that an identity holds on a backend', () => {
    const { grant, backend } = resolveGrant(snapshotWith({ name: 'read' }), wish, NOW);
    assert.deepEqual([grant.name, backend.name], ['read', 'orders-db']);
  });

  it('S13: refuses to choose between several grants and lists them', () => {
    const snapshot = snapshotWith({ name: 'read' }, { name: 'write' });
    const message = messageOf(() => resolveGrant(snapshot, wish, NOW));
    assert.equal(
      message,
      'you hold several grants on "orders-db": name one of read, write as the user',
    );
  });

  it('S13: takes the grant that is named, never a union', () => {
    const snapshot = snapshotWith({ name: 'read' }, { name: 'write' });
    const { grant } = resolveGrant(snapshot, { ...wish, grant: 'write' }, NOW);
    assert.equal(grant.name, 'write');
  });

  it('S13: names what is held to who names a grant that it does not hold', () => {
    const snapshot = snapshotWith({ name: 'read' });
    const message = messageOf(() => resolveGrant(snapshot, { ...wish, grant: 'admin' }, NOW));
    assert.equal(message, 'you hold no grant "admin" on "orders-db", but read');
  });

  describe('with several databases in a backend', () => {
    const on = (name: string, database = ''): MessageInitShape<typeof GrantSchema> => ({
      name,
      backend: 'shop',
      rights: { case: 'postgres', value: { database } },
    });
    const resolve = (
      grants: readonly MessageInitShape<typeof GrantSchema>[],
      backend: string,
      words: { grant?: string; serverName?: string; login?: string } = {},
    ) =>
      resolveGrant(snapshotWith(...grants), { grant: '', spiffeId: WEB, backend, ...words }, NOW)
        .grant.name;
    const both = [on('orders'), on('bills', 'billing'), on('odd', 'shop_db')];

    it('S13: takes the grant on the database that is named, never one on another', () => {
      assert.equal(resolve(both, 'shop'), 'orders');
      assert.equal(resolve(both, 'billing'), 'bills');
      assert.equal(resolve(both, 'billing', { grant: 'bills' }), 'bills');
      assert.equal(
        messageOf(() => resolve(both, 'shop', { grant: 'bills' })),
        'you hold no grant "bills" on "shop", but orders',
      );
    });

    it('S13: refuses to choose between several on one of them', () => {
      const three = [...both, on('more-bills', 'billing')];
      assert.equal(resolve(three, 'shop'), 'orders');
      assert.equal(
        messageOf(() => resolve(three, 'billing')),
        'you hold several grants on "billing": name one of bills, more-bills as the user',
      );
    });

    it('names the databases that are held to who names another of the backend', () => {
      assert.equal(
        messageOf(() => resolve([on('bills', 'billing')], 'shop')),
        'you hold no grant on "shop", but on billing',
      );
    });

    it('takes names of the server by a server name alone, and those before names of clients', () => {
      const serverName = 'Shop.internal';
      assert.equal(resolve(both, 'shop_db'), 'odd');
      assert.equal(resolve(both, 'shop_db', { serverName }), 'orders');
      assert.equal(resolve(both, 'billing_db', { serverName }), 'bills');
      assert.equal(resolve(both, 'billing', { serverName }), 'bills');
      assert.equal(
        messageOf(() => resolve(both, 'billing_db', { serverName: 'other.internal' })),
        `${WEB} holds no grant on "billing_db"`,
      );
    });

    it('G12: refuses what server name and database contradict, and explains it to holders alone', () => {
      const serverName = 'shop.internal';
      const orders = [{ name: 'read' }];
      assert.equal(
        messageOf(() => resolve([...both, ...orders], 'orders-db', { serverName })),
        'server name "shop.internal" is that of backend shop, which has no database "orders-db": you hold grants on billing, shop, shop_db',
      );
      assert.equal(
        messageOf(() => resolve(orders, 'orders-db', { serverName })),
        `${WEB} holds no grant on "orders-db"`,
      );
    });

    it('does not let an SSH client in by the name of a database', () => {
      assert.equal(
        messageOf(() => resolve(both, 'billing', { login: 'deploy' })),
        `${WEB} holds no grant on "billing"`,
      );
    });
  });

  it('gives nobody the grant of another identity, though it is named', () => {
    const snapshot = snapshotWith({ name: 'theirs', identity: `${WEB}/admin` });
    const message = messageOf(() => resolveGrant(snapshot, { ...wish, grant: 'theirs' }, NOW));
    assert.equal(message, `${WEB} holds no grant on "orders-db"`);
  });

  it('tells a backend that is not there from one without a grant to nobody', () => {
    const snapshot = snapshotWith({ name: 'theirs', identity: `${WEB}/admin` });
    const there = messageOf(() => resolveGrant(snapshot, wish, NOW));
    const absent = messageOf(() => resolveGrant(snapshot, { ...wish, backend: 'none' }, NOW));
    assert.equal(there.replace('orders-db', 'none'), absent);
  });

  it('refuses a grant from the instant it expires', () => {
    const expired = { name: 'read', expiresAt: timestampFromDate(NOW) };
    const message = messageOf(() => resolveGrant(snapshotWith(expired), wish, NOW));
    assert.equal(message, 'read on "orders-db" has expired');
    const live = { name: 'read', expiresAt: timestampFromDate(new Date(NOW.getTime() + 1)) };
    assert.equal(resolveGrant(snapshotWith(live), wish, NOW).grant.name, 'read');
  });

  it('takes the live one of two grants, one of which has expired', () => {
    const expired = { name: 'old', expiresAt: timestampFromDate(NOW) };
    assert.equal(resolveGrant(snapshotWith(expired, { name: 'new' }), wish, NOW).grant.name, 'new');
  });
});

describe('resolveGrant of a login', () => {
  const deploy = { backend: 'web-1', grant: '', login: 'deploy', spiffeId: WEB };

  it('takes the one grant that gives the login, among several', () => {
    const snapshot = snapshotWith(sshGrant('a', 'root'), sshGrant('b', 'ops', 'deploy'));
    assert.equal(resolveGrant(snapshot, deploy, NOW).grant.name, 'b');
  });

  it('S13: lists the grants that give the login where several do and none is named', () => {
    const snapshot = snapshotWith(
      ...[sshGrant('a', 'deploy'), sshGrant('b', 'deploy'), sshGrant('c', 'root')],
    );
    assert.equal(
      messageOf(() => resolveGrant(snapshot, deploy, NOW)),
      'you hold several grants on "web-1": name one of a, b behind the user, after a +',
    );
    assert.equal(resolveGrant(snapshot, { ...deploy, grant: 'b' }, NOW).grant.name, 'b');
  });

  it('S13: takes no login of another grant than the named one', () => {
    const snapshot = snapshotWith(sshGrant('a', 'deploy'), sshGrant('c', 'root', 'ops'));
    assert.equal(
      messageOf(() => resolveGrant(snapshot, { ...deploy, grant: 'c' }, NOW)),
      'you have no login "deploy" on "web-1", but ops, root',
    );
  });

  it('gives no login that stands in no grant', () => {
    const snapshot = snapshotWith(sshGrant('a', 'deploy'));
    assert.equal(
      messageOf(() => resolveGrant(snapshot, { ...deploy, login: 'root\n' }, NOW)),
      'you have no login "root?" on "web-1", but deploy',
    );
    messageOf(() => resolveGrant(snapshot, { ...deploy, login: '' }, NOW));
  });

  it('gives no login by a grant that has expired', () => {
    const expired = { ...sshGrant('a', 'deploy'), expiresAt: timestampFromDate(NOW) };
    const snapshot = snapshotWith(expired, sshGrant('b', 'root'));
    assert.equal(
      messageOf(() => resolveGrant(snapshot, deploy, NOW)),
      'you have no login "deploy" on "web-1", but root',
    );
  });

  it('lets no protocol use a grant or a backend of another', () => {
    const postgres = { case: 'postgres', value: { groupRole: 'g' } } as const;
    const snapshot = snapshotWith(
      sshGrant('a', 'deploy'),
      { name: 'b', rights: postgres },
      { ...sshGrant('c', 'deploy'), backend: 'orders-db' },
      { name: 'd', backend: 'web-2', rights: postgres },
    );
    const elsewhere = (backend: string) => `what you hold on "${backend}" is not for this protocol`;
    for (const [wrong, message] of [
      [{ backend: 'web-1', grant: '', spiffeId: WEB }, elsewhere('web-1')],
      [{ ...deploy, backend: 'orders-db' }, elsewhere('orders-db')],
      [{ ...deploy, backend: 'web-2' }, elsewhere('web-2')],
      [{ backend: 'web-2', grant: '', spiffeId: WEB }, elsewhere('web-2')],
    ] as const) {
      assert.equal(
        messageOf(() => resolveGrant(snapshot, wrong, NOW)),
        message,
      );
    }
    assert.equal(resolveGrant(snapshot, wish, NOW).grant.name, 'b');
  });
});

describe('liveSshGrants', () => {
  it('are those of the identity that live, on SSH backends, or on one of these', () => {
    const snapshot = snapshotWith(
      sshGrant('a', 'deploy'),
      { ...sshGrant('b', 'deploy'), backend: 'web-2' },
      { ...sshGrant('theirs', 'deploy'), identity: `${WEB}/admin` },
      { ...sshGrant('expired', 'deploy'), expiresAt: timestampFromDate(NOW) },
      { ...sshGrant('wrong', 'deploy'), backend: 'orders-db' },
      { ...sshGrant('gone', 'deploy'), backend: 'web-3' },
      { name: 'read' },
    );
    const names = (backend?: string) =>
      liveSshGrants(snapshot, { spiffeId: WEB, ...(backend && { backend }) }, NOW).map(
        ({ name }) => name,
      );
    assert.deepEqual(names(), ['a', 'b']);
    assert.deepEqual(names('web-2'), ['b']);
    assert.deepEqual(names('orders-db'), []);
  });
});

describe('printable', () => {
  it('lets no control, escape or non-ASCII character through and cuts', () => {
    assert.equal(printable('a\u001b[2J\u202eb\u009bé', 7), 'a?[2J?b');
    assert.equal(shown('x'.repeat(500)).length, 82);
  });
});
