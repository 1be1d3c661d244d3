import assert from 'node:assert/strict';
import { onEachPostgres } from '../test/fixtures/each-postgres.ts';
import { SECRETS, SHOP_SQL } from '../test/fixtures/shop-database.ts';
import { withPostgres } from './postgres-catalog.ts';
import { isCard, isIban, kindOfName, kindOfValue, shapeOf } from './postgres-detectors.ts';
import { proposeClasses } from './postgres-documents.ts';
import { scanPostgres } from './postgres-scan.ts';

describe('kindOfValue', () => {
  it('recognises what a value is by its form and check digits', () => {
    const kinds = {
      'ada@example.org': 'email',
      '4111 1111 1111 1111': 'card',
      '4111 1111 1111 1112': undefined,
      '536-22-8726': 'national-id',
      '+44 20 7946 0958': 'phone',
      'DE89 3704 0044 0532 0130 00': 'iban',
      'DE89 3704 0044 0532 0130 01': undefined,
      [SECRETS.apiKey]: 'secret',
      'eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.x': 'secret',
      'call ada@example.org': 'free-text',
      '2024-05-06': undefined,
      '10.0.0.1': undefined,
      '1234567890123': undefined,
    };
    for (const [value, kind] of Object.entries(kinds))
      assert.equal(kindOfValue(value), kind, value);
    assert.ok(isCard(SECRETS.card) && !isCard('0000000000000000'));
    assert.ok(isIban('GB82WEST12345698765432'));
  });

  it('takes bounded time for text made to be slow', () => {
    for (const text of ['a@'.repeat(50_000), '1-'.repeat(50_000), 'a.'.repeat(50_000)]) {
      assert.ok(kindOfValue(text) === undefined || kindOfValue(text) === 'free-text');
    }
  });
});

describe('kindOfName', () => {
  it('knows names in snake and camel case, and no flag about them', () => {
    assert.equal(kindOfName('homeEmail'), 'email');
    assert.equal(kindOfName('date_of_birth'), 'birthday');
    assert.equal(kindOfName('password_hash'), 'secret');
    assert.equal(kindOfName('email_verified'), undefined);
    assert.equal(kindOfName('card_id'), undefined);
  });
});

describe('shapeOf', () => {
  it('keeps no letter and no digit', () => {
    assert.equal(shapeOf('Ada.L@example.org 12'), 'xxx.x@xxxxxxx.xxx 00');
  });
});

onEachPostgres('scanPostgres', (server) => {
  before(() => server().exec(SHOP_SQL));

  const scan = (known: readonly string[] = []) =>
    withPostgres({ connectionString: server().superuserUrl }, (client) =>
      scanPostgres(client, new Set(known)),
    );

  it('G13 proposes a class for each column with personal data, and shows no value', async () => {
    await server().exec(
      "create table public.extra (id int, remark text, code text); insert into public.extra values (1, 'mail ada@example.org', 'x'); comment on column public.extra.code is 'writ:class=internal'",
    );
    const found = await scan();
    const classes = Object.fromEntries(
      found.columns.map(({ table, column, className }) => [`${table}.${column}`, className]),
    );
    assert.deepEqual(classes, {
      'public.customers.ssn': 'national-id',
      'public.customers.email': 'email',
      'public.customers.card': 'card-hidden',
      'public.customers.api_key': 'secret',
      'public.customers.born': 'birthday',
      'public.customers.notes': 'free-text',
      'public.extra.remark': 'free-text',
      'public.extra.code': 'internal',
      'public.vault.secret': 'secret',
    });
    const printed = JSON.stringify(found);
    for (const secret of Object.values(SECRETS)) assert.ok(!printed.includes(secret), secret);
    const documents = proposeClasses({ backend: 'shop', columns: found.columns, resources: [] });
    assert.equal(documents.filter(({ kind }) => kind === 'ColumnClass').length, 7);
    assert.equal(documents.at(-1)?.name, 'shop-found');
  });

  it('does not propose what has a class', async () => {
    const { columns, known } = await scan(['public.customers.ssn']);
    assert.equal(known, 1);
    assert.ok(!columns.some(({ column }) => column === 'ssn'));
  });
});
