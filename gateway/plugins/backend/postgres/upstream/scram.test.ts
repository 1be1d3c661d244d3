import assert from 'node:assert/strict';
import { scramExchange } from './scram.ts';

/** Source: RFC 7677, section 3; the user name in it is `user`, PostgreSQL's is empty. */
describe('scramExchange', () => {
  const nonce = 'rOprNGfwEbeRWgbNEkqO';
  const serverNonce = `${nonce}%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0`;
  const salt = 'W22ZaJ0SNY7soEsUEjb6gQ==';
  const first = `r=${serverNonce},s=${salt},i=4096`;

  it('says who it is without channel binding', () => {
    assert.equal(scramExchange('pencil', nonce).first, `n,,n=,r=${nonce}`);
  });

  it('refuses a server that does not prove the password', async () => {
    const exchange = scramExchange('pencil', nonce);
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
    assert.throws(() => scramExchange('pencil', nonce).verify('v='), { code: 'BACKEND_FAILED' });
  });

  it('refuses a nonce that is not its own, or that adds nothing', async () => {
    for (const text of [`r=other,s=${salt},i=4096`, `r=${nonce},s=${salt},i=4096`]) {
      await assert.rejects(scramExchange('pencil', nonce).answer(text), { code: 'BACKEND_FAILED' });
    }
  });

  it('refuses no iterations, and more than it can afford', async () => {
    for (const count of ['0', '', '4097', '9999999', '-1', '1e5']) {
      const text = `r=${serverNonce},s=${salt},i=${count}`;
      await assert.rejects(scramExchange('pencil', nonce).answer(text), { code: 'BACKEND_FAILED' });
    }
  });
});
