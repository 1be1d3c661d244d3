import assert from 'node:assert/strict';
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { SessionLimitsSchema } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { FakeClock } from '../../test/fakes/fake-clock.ts';
import { Budget, BudgetFault } from './budget.ts';
import { DayUses } from './day-use.ts';

const WEB = 'spiffe://example.org/web';
const limits = (init: MessageInitShape<typeof SessionLimitsSchema>) =>
  create(SessionLimitsSchema, init);

describe('Budget', () => {
  let directory: string;
  let clock: FakeClock;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'budget-'));
    clock = new FakeClock();
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  const uses = () => new DayUses({ directory, clock });
  const refused = (act: () => void, what: string) =>
    assert.throws(act, (error) => error instanceof BudgetFault && error.message.endsWith(what));

  it('gives rows, bytes and statements of a session to the last one, and no more', () => {
    const budget = new Budget(limits({ rows: 2n, bytes: 10n, statements: 1n }), undefined);
    budget.row();
    budget.row();
    refused(() => budget.row(), ': 2 rows in a session');
    budget.bytes(10);
    refused(() => budget.bytes(1), ': 10 bytes in a session');
    budget.statement();
    refused(() => budget.statement(), ': 1 statements in a session');
  });

  it('limits nothing where the grant does not', () => {
    const budget = new Budget(undefined, undefined);
    for (let n = 0; n < 1000; n += 1) budget.row();
    budget.bytes(1e12);
    assert.equal(budget.idleInTransactionMs, 300_000);
  });

  it('P10: ends a session with its 21st constraint error, or where the grant says', () => {
    const budget = new Budget(limits({}), undefined);
    for (let n = 0; n < 20; n += 1) budget.error('23505');
    for (let n = 0; n < 100; n += 1) budget.error('42P01');
    refused(() => budget.error('23503'), ': 20 constraint errors in a session');
    const strict = new Budget(limits({ errors: 1 }), undefined);
    strict.error('23505');
    refused(() => strict.error('23P01'), ': 1 constraint errors in a session');
  });

  it('counts the day over sessions, identities apart, and over restarts of the gateway', () => {
    const perDay = limits({ perDay: { rows: 3n } });
    const first = new Budget(perDay, uses().of(WEB, 'read'));
    first.row();
    first.row();
    first.bytes(100);
    const afterRestart = uses();
    const second = new Budget(perDay, afterRestart.of(WEB, 'read'));
    const beside = new Budget(perDay, afterRestart.of(WEB, 'read'));
    second.row();
    refused(() => beside.row(), ': 3 rows in a day');
    new Budget(perDay, afterRestart.of(`${WEB}2`, 'read')).row();
    new Budget(perDay, afterRestart.of(WEB, 'other')).row();
  });

  it('begins anew at midnight UTC, and not where the clock is set back', () => {
    const perDay = limits({ perDay: { statements: 1n } });
    const budget = new Budget(perDay, uses().of(WEB, 'read'));
    budget.statement();
    clock.jump(24 * 3600 * 1000);
    budget.statement();
    clock.jump(-24 * 3600 * 1000);
    refused(() => budget.statement(), ': 1 statements in a day');
    refused(
      () => new Budget(perDay, uses().of(WEB, 'read')).statement(),
      ': 1 statements in a day',
    );
  });

  it('counts the time that sessions are open', () => {
    const perDay = limits({ perDay: { duration: { seconds: 3n } } });
    const use = uses();
    const [one, other] = [0, 1].map(() => new Budget(perDay, use.of(WEB, 'read')));
    one?.tick(0);
    other?.tick(0);
    one?.tick(1400);
    other?.tick(1400);
    refused(() => one?.tick(1700), ': 3 s of sessions in a day');
    refused(() => new Budget(perDay, uses().of(WEB, 'read')).tick(0), 'in a day');
  });

  it('opens nothing on a use that it cannot read', () => {
    const budget = new Budget(limits({ perDay: { rows: 3n } }), uses().of(WEB, 'read'));
    budget.row();
    budget.bytes(1);
    const [name = ''] = readdirSync(directory);
    const file = join(directory, name);
    const whole = readFileSync(file);
    for (let bit = 0; bit < whole.length * 8; bit += 1) {
      const bad = Buffer.from(whole);
      bad[bit >> 3] = (bad[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      writeFileSync(file, bad);
      assert.throws(() => uses().of(WEB, 'read'), { code: 'UNAVAILABLE' });
    }
    truncateSync(file, 7);
    assert.throws(() => uses().of(WEB, 'read'), { code: 'UNAVAILABLE' });
    writeFileSync(file, whole);
    uses().of(WEB, 'read');
  });

  describe('of a gateway of several processes', () => {
    const worker = (index: number, count = 3) =>
      new DayUses({ directory, clock, slot: { index, count } });
    const perDay = limits({ perDay: { rows: 5n, statements: 4n, duration: { seconds: 3n } } });
    const budgetIn = (uses: DayUses) => new Budget(perDay, uses.of(WEB, 'read'));

    it('counts the day over all of them', () => {
      const [one, other, third] = [0, 1, 2].map((index) => budgetIn(worker(index)));
      one?.statement();
      other?.statement();
      one?.statement();
      third?.statement();
      refused(() => other?.statement(), ': 4 statements in a day');
      refused(() => one?.statement(), ': 4 statements in a day');
    });

    it('lets no batch out that together with the others is too much', () => {
      const [one, other] = [0, 1].map((index) => budgetIn(worker(index)));
      for (let row = 0; row < 3; row += 1) {
        one?.row();
        other?.row();
      }
      one?.bytes(10);
      refused(() => other?.bytes(10), ': 5 rows in a day');
    });

    it('counts the time of all of them', () => {
      const [one, other] = [0, 1].map((index) => budgetIn(worker(index)));
      one?.tick(0);
      other?.tick(0);
      one?.tick(1400);
      other?.tick(1400);
      refused(() => one?.tick(1700), ': 3 s of sessions in a day');
    });

    it('keeps what one had used that was killed, and what those had that are no more', () => {
      budgetIn(worker(2)).statement();
      budgetIn(worker(1)).statement();
      budgetIn(worker(1)).statement();
      const alone = budgetIn(uses());
      alone.statement();
      refused(() => alone.statement(), ': 4 statements in a day');
    });

    it('begins anew for all at midnight UTC', () => {
      const [one, other] = [0, 1].map((index) => budgetIn(worker(index)));
      for (let n = 0; n < 4; n += 1) one?.statement();
      clock.jump(24 * 3600 * 1000);
      for (let n = 0; n < 4; n += 1) other?.statement();
      refused(() => one?.statement(), ': 4 statements in a day');
    });
  });

  it('ends the session where the use cannot be kept', () => {
    const budget = new Budget(limits({ perDay: { rows: 3n } }), uses().of(WEB, 'read'));
    rmSync(directory, { recursive: true });
    budget.row();
    assert.throws(() => budget.bytes(1), { code: 'UNAVAILABLE' });
    directory = mkdtempSync(join(tmpdir(), 'budget-'));
  });

  it('forgets the days before', () => {
    const budget = new Budget(limits({ perDay: { rows: 3n } }), uses().of(WEB, 'read'));
    budget.row();
    budget.bytes(1);
    clock.jump(48 * 3600 * 1000);
    DayUses.removeOld({ directory, clock });
    assert.deepEqual(readdirSync(directory), []);
  });
});
