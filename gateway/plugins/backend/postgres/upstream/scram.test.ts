import assert from 'node:assert/strict';
import { CHOSEN_PASSWORD, RANDOM_PASSWORD, type ScramOptions, scramExchange } from './scram.ts';

/** Source: RFC 7677, section 3; the user name in it is `user`, PostgreSQL's is empty. */
describe('scramExchange', () => {
  const nonce = 'rOprNGfwEbeRWgbNEkqO';
  const serverNonce = `${nonce}%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0`;
  const salt = 'W22ZaJ0SNY7soEsUEjb6gQ==';
  const options: ScramOptions = { nonce, channel: 'none', iterations: RANDOM_PASSWORD };
  const first = `r=${serverNonce},s=${salt},i=4096`;

  it('says what it is bound to, that it could be bound, or that it cannot', async () => {
    const headers: [ScramOptions['channel'], string, string][] = [
      ['none', 'n,,', 'SCRAM-SHA-256'],
      ['unused', 'y,,', 'SCRAM-SHA-256'],
      [{ endPoint: Buffer.from('hash') }, 'p=tls-server-end-point,,', 'SCRAM-SHA-256-PLUS'],
    ];
    for (const [channel, header, mechanism] of headers) {
      const exchange = scramExchange('pencil', { ...options, channel });
      assert.equal(exchange.first, `${header}n=,r=${nonce}`);
      assert.equal(exchange.mechanism, mechanism);
      const data = typeof channel === 'string' ? header : `${header}hash`;
      const answer = await exchange.answer(first);
      assert.ok(answer.startsWith(`c=${Buffer.from(data).toString('base64')},r=`), answer);
    }
  });

  it('refuses a server that does not prove the password', async () => {
    const exchange = scramExchange('pencil', options);
    await exchange.answer(first);
    for (const final of [
      'v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=',
      'v=',
      '',
      'e=other-error',
    ]) {
      assert.throws(() => exchange.verify(final), { code: 'BACKEND_FAILED' }, final);
    }
  });

  it('refuses a proof before the exchange', () => {
    assert.throws(() => scramExchange('pencil', options).verify('v='), { code: 'BACKEND_FAILED' });
  });

  it('refuses a nonce that is not its own, or that adds nothing', async () => {
    for (const text of [`r=other,s=${salt},i=4096`, `r=${nonce},s=${salt},i=4096`]) {
      await assert.rejects(scramExchange('pencil', options).answer(text), {
        code: 'BACKEND_FAILED',
      });
    }
  });

  it('refuses no iterations, and more than it can afford', async () => {
    for (const count of ['0', '', '4097', '9999999', '-1', '1e5']) {
      const text = `r=${serverNonce},s=${salt},i=${count}`;
      await assert.rejects(scramExchange('pencil', options).answer(text), {
        code: 'BACKEND_FAILED',
      });
    }
  });

  it('refuses so few iterations for a password that can be guessed that guessing is cheap', async () => {
    const chosen = { ...options, iterations: CHOSEN_PASSWORD };
    for (const count of ['1', '4095', '1000001']) {
      const text = `r=${serverNonce},s=${salt},i=${count}`;
      await assert.rejects(scramExchange('pencil', chosen).answer(text), {
        code: 'BACKEND_FAILED',
      });
    }
    await scramExchange('pencil', chosen).answer(`r=${serverNonce},s=${salt},i=10000`);
  });
});
