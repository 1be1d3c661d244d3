import assert from 'node:assert/strict';
import { PlayableText } from './playable-text.ts';

const shown = (...pieces: readonly string[]) => {
  const text = new PlayableText();
  return pieces.map((piece) => text.add(piece)).join('');
};

describe('PlayableText', () => {
  for (const [what, text] of [
    ['text of any script', 'a\tb\r\n\u00e9\u20ac\u{1f600}\b'],
    ['colours', '\u001b[1;38:2::1:2:3mred\u001b[m'],
    ['a cursor that moves', '\u001b[H\u001b[10;20H\u001b[2A\u001b7\u001b8\u001bM'],
    ['erasing and scrolling', '\u001b[2J\u001b[K\u001b[3L\u001b[1;20r\u001b[2S'],
    ['the alternate screen and a hidden cursor', '\u001b[?1049h\u001b[?25l\u001b[?25;7h\u001b[4l'],
    ['line drawing', '\u001b(0lqk\u001b(B'],
  ] as const) {
    it(`keeps ${what}`, () => {
      assert.equal(shown(text), text);
      assert.equal(shown(...text), text);
    });
  }

  for (const [what, text] of [
    ['a clipboard', '\u001b]52;c;Y3VybA==\u0007'],
    ['a title', '\u001b]0;title\u001b\\'],
    ['controls of 8 bits', '\u009b\u009d\u0090\u0085'],
    ['a device control string', '\u001bP$q"p\u001b\\'],
    ['an application program command', '\u001b_Gi=1\u001b\\'],
    [
      'questions that a terminal answers',
      '\u001b[c\u001b[>c\u001b[6n\u001b[?1$p\u001b[>q\u001b[x\u0005\u001bZ',
    ],
    ['a report of the window, and a change of it', '\u001b[21t\u001b[8;999;999t'],
    [
      'mouse, focus and paste modes',
      '\u001b[?1000h\u001b[?1006h\u001b[?1004h\u001b[?2004h\u001b[?25;1003h',
    ],
    ['keyboard modes', '\u001b[>4;2m\u001b[>1u\u001b[=1u'],
    ['highlighting that waits for an answer', '\u001b[1;1;1;1;1T'],
    ['a print-out', '\u001b[5i'],
    ['a reset', '\u001bc\u001b[!p'],
    ['a repetition without end', '\u001b[2147483647b'],
    ['bells and padding', '\u0007\u0000\u007f'],
  ] as const) {
    it(`G50: leaves out ${what}`, () => {
      assert.equal(shown(`a${text}b`), 'ab');
      assert.equal(shown('a', ...text, 'b'), 'ab');
    });
  }

  it('hides nothing behind a string or a sequence that has no end', () => {
    assert.equal(shown('\u001b]52;c;aaaa\r\nhidden?'), '\r\nhidden?');
    assert.match(shown(`\u001b]0;${'x'.repeat(10_000)}`), /^x{5000,}$/);
    assert.match(shown(`\u001b[${'1'.repeat(10_000)}`), /^1{9000,}$/);
    assert.equal(shown('\u001b[12\nseen'), '\nseen');
  });

  it('makes no sequence of what surrounds one that it leaves out', () => {
    assert.equal(shown('\u001b\u001b[6n[31mx'), '[31mx');
    assert.equal(shown('\u001b]0;a\u001b[31mx'), '\u001b[31mx');
  });

  it('shows where the direction of text was changed', () => {
    assert.equal(shown('a\u202eb\u2066c'), 'a\ufffdb\ufffdc');
  });
});
