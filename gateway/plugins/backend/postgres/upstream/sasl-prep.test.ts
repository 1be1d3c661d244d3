import assert from 'node:assert/strict';
import { onEachPostgres } from '../../../../../test/fixtures/each-postgres.ts';
import { logIn } from './login.ts';
import { prepared } from './sasl-prep.ts';
import { CHOSEN_PASSWORD } from './scram.ts';

/** Source: RFC 4013, section 3. */
describe('prepared', () => {
  const cases: [what: string, password: string, result: string][] = [
    ['a soft hyphen mapped to nothing', 'I\u00adX', 'IX'],
    ['nothing to do', 'user', 'user'],
    ['no change of case', 'USER', 'USER'],
    ['normalisation', '\u00aa', 'a'],
    ['normalisation of a letter by itself', '\u2168', 'IX'],
    ['a wide space', 'a\u3000b', 'a b'],
    ['a control that is prohibited, so all as it is', 'a\u00ad\u0007', 'a\u00ad\u0007'],
    ['nothing left, so all as it is', '\u00ad', '\u00ad'],
  ];
  for (const [what, password, result] of cases) {
    it(`does ${what}`, () => assert.equal(prepared(password), result));
  }
});

onEachPostgres('a password beyond ASCII', (server) => {
  it('is taken as the server stored it, in whatever form it is written', async () => {
    // Stored from the second form of each.
    const forms = [
      ['caf\u00e9 \u2168', 'cafe\u0301 IX'],
      ['pass\u00adword\u00a0ﬁx', 'password fix'],
    ] as const;
    const enter = (role: string, password: string) =>
      logIn({
        address: { host: server().host, port: server().port },
        ...{ database: 'postgres', role, password, settings: new Map() },
        ...{ iterations: CHOSEN_PASSWORD, signal: AbortSignal.timeout(20_000) },
      });
    for (const [index, [one, other]] of forms.entries()) {
      const role = `form_${index}`;
      await server().exec(`create role ${role} login password '${other}'`);
      for (const password of [one, other]) (await enter(role, password)).socket.destroy();
      await assert.rejects(enter(role, `${one}.`), { code: 'BACKEND_FAILED' });
    }
  });
});
