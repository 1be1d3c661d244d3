import assert from 'node:assert/strict';
import { parseTrustDomain } from '../../../identity/spiffe-id.ts';
import { agentPathTemplate } from './agent-path.ts';

const TD = parseTrustDomain('example.org');
const FACTS = { plugin: 'quiz', fields: ['PluginName', 'TrustDomain', 'Room', 'Seat.Row'] };

describe('agentPathTemplate', () => {
  const template = (text: string) => agentPathTemplate('a.template', text, FACTS);
  const agentId = (text: string, more: Readonly<Record<string, string>> = {}) => {
    const facts = { PluginName: 'quiz', TrustDomain: TD, Room: 'r1', 'Seat.Row': '7', ...more };
    return String(template(text).agentId(TD, facts));
  };

  it('puts facts in the places of fields, always below /spire/agent', () => {
    for (const [text, path] of [
      ['/{{ .PluginName }}/{{ .Room }}', '/quiz/r1'],
      ['/{{.PluginName}}/{{.Seat.Row}}/{{  .Room  }}', '/quiz/7/r1'],
      ['/quiz/{{ .TrustDomain }}-{{ .Room }}', '/quiz/example.org-r1'],
    ] as const)
      assert.equal(agentId(text), `spiffe://example.org/spire/agent${path}`);
  });

  for (const [what, text, message] of [
    [
      'a function',
      '/{{ .PluginName }}/{{ .Room | upper }}',
      /only fields can stand between braces/,
    ],
    ['a condition', '/quiz/{{ if .Room }}x{{ end }}/{{ .Room }}', /only fields can stand/],
    ['a half-open place', '/quiz/{{ .Room }}/{{ .Room', /only fields can stand/],
    [
      'a field that there is not',
      '/quiz/{{ .Subject.Country }}',
      /there is no {{ .Subject.Country }}, only {{ .Plug/,
    ],
    ["another attestor's paths", '/join_token/{{ .Room }}', /begins with \/{{ .PluginName }}\//],
    ['a path without a start', '{{ .PluginName }}/{{ .Room }}', /begins with/],
    ['a path for all nodes', '/{{ .PluginName }}/{{ .TrustDomain }}', /the same ID/],
    ['a path that is too long', `/quiz/${'x'.repeat(1024)}{{ .Room }}`, /1024/],
  ] as const)
    it(`refuses ${what} in one line that names the field`, () => {
      assert.throws(
        () => template(text),
        (error: Error & { code?: string }) => {
          assert.equal(error.code, 'CONFIG_INVALID');
          assert.match(error.message, message);
          assert.match(error.message, /^a\.template: [^\n]*$/);
          return true;
        },
      );
    });

  for (const room of ['', '..', 'a b', 'a//b', '%2e', 'ä', '{{ .Room }}', 'x'.repeat(2048)])
    it(`makes no agent of the fact ${JSON.stringify(room.slice(0, 12))}`, () => {
      assert.throws(() => agentId('/quiz/{{ .Room }}', { Room: room }), {
        code: 'ATTESTATION_DENIED',
      });
    });

  it('takes no fact for a pattern of its own', () => {
    assert.throws(() => agentId('/quiz/{{ .Room }}', { Room: '$&' }), {
      code: 'ATTESTATION_DENIED',
    });
  });
});
