import assert from 'node:assert/strict';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { joinTokenHandle, textWithoutToken, withoutToken } from './join-token-ids.ts';

const AGENT = 'spiffe://example.org/spire/agent/join_token/';

describe('joinTokenHandle', () => {
  it('is the same for the same token and has nothing of it', () => {
    const handle = joinTokenHandle('0765f368-6166-441e-9a87-e01c3e3ddda6');
    assert.match(handle, /^j_[a-z2-7]{26}$/);
    assert.equal(joinTokenHandle('0765f368-6166-441e-9a87-e01c3e3ddda6'), handle);
    assert.notEqual(joinTokenHandle('0765f368-6166-441e-9a87-e01c3e3ddda7'), handle);
  });
});

describe('withoutToken', () => {
  it('puts the handle in the place of a token', () => {
    const id = withoutToken(SpiffeId.parse(`${AGENT}secret`));
    assert.equal(String(id), AGENT + joinTokenHandle('secret'));
    assert.equal(String(withoutToken(id)), String(id));
  });
});

describe('textWithoutToken', () => {
  it('leaves everything else as it is', () => {
    for (const text of [
      'spiffe://example.org/spire/agent/x509pop/secret',
      'spiffe://example.org/spire/agent/join_token/a/b',
      'spiffe://example.org/a/spire/agent/join_token/b',
      'secret',
      '',
    ])
      assert.equal(textWithoutToken(text), text);
  });
});
