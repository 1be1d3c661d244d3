/**
 * What one terminal was sent, as another may be sent it: text, and the sequences that draw. Whoever is
 * under review wrote it, and whoever reviews must not have a clipboard set, a title, answers typed into a
 * shell, or a mouse mode left behind. A string that a terminal keeps to itself ends here with its line, so
 * that one that is never closed hides nothing.
 *
 * Source: ECMA-48 5; xterm, Control Sequences.
 */

/** What may be within a sequence before the last character. */
const LONGEST_SEQUENCE = 64;
const LONGEST_STRING = 4096;

/** Begins an operating system command, a device control string, or another string that is not shown. */
const STRINGS = new Set(']PX^_');
/** Cursors, tabs, character sets; with an intermediate character only the choice of a set. */
const ESCAPE = /^(?:[78DEHM=>]|[()*+][0-~])$/;
/** Cursors, erasing, inserting, scrolling, colours: numbers alone, none of them huge. */
const DRAWING = /^[0-9]{0,5}(?:[;:][0-9]{0,5}){0,31}[@A-HJ-MPXZ`ad-gmrsu]$|^[0-9]{0,5}[ISTb]$/;
/** Modes of the screen: wrapping, origin, cursor, the alternate screen; inserting and line ends. */
const MODES =
  /^(?:\?(?:1|5|6|7|12|25|47|1047|1048|1049)(?:;(?:1|5|6|7|12|25|47|1047|1048|1049))*|4|20)[hl]$/;
/** Of these characters nothing is drawn, and some a terminal answers or reads as sequences. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is being looked for
const SILENT = /[\u0000-\u0007\u0010-\u001f\u007f-\u009f]/;
/** These change the order of what is around them. */
const DIRECTION = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/;

const ESC = '\u001b';
const BEL = '\u0007';

type State = 'text' | 'escape' | 'control' | 'string';

/** The output of one terminal in order, in whatever pieces it comes. */
export class PlayableText {
  #state: State = 'text';
  /** Of the sequence at hand, without what it begins by. */
  #sequence = '';
  #stringLength = 0;

  /** What of the text may be shown; a sequence that is not whole waits for its end. */
  add(text: string): string {
    let shown = '';
    for (const character of text) shown += this.#take(character);
    return shown;
  }

  #take(character: string): string {
    if (character === ESC) return this.#begin('escape');
    switch (this.#state) {
      case 'text':
        return playable(character);
      case 'escape':
        return this.#takeEscape(character);
      case 'control':
        return this.#takeSequence(character, { first: '[', last: /[@-~]/ });
      case 'string':
        return this.#takeString(character);
    }
  }

  #takeEscape(character: string): string {
    if (this.#sequence === '') {
      if (character === '[') return this.#begin('control');
      if (STRINGS.has(character)) return this.#begin('string');
    }
    return this.#takeSequence(character, { first: '', last: /[0-~]/ });
  }

  #takeSequence(character: string, { first, last }: { first: string; last: RegExp }): string {
    const isWithin = /[ -?]/.test(character) && !last.test(character);
    if (isWithin && this.#sequence.length < LONGEST_SEQUENCE) {
      this.#sequence += character;
      return '';
    }
    const sequence = this.#sequence + character;
    this.#begin('text');
    if (!last.test(character)) return playable(character);
    const isDrawing =
      first === '' ? ESCAPE.test(sequence) : DRAWING.test(sequence) || MODES.test(sequence);
    return isDrawing ? `${ESC}${first}${sequence}` : '';
  }

  #takeString(character: string): string {
    this.#stringLength += 1;
    if (character !== BEL && !/[\b-\r]/.test(character) && this.#stringLength < LONGEST_STRING) {
      return '';
    }
    this.#begin('text');
    return playable(character);
  }

  #begin(state: State): '' {
    this.#state = state;
    this.#sequence = '';
    this.#stringLength = 0;
    return '';
  }
}

function playable(character: string): string {
  if (SILENT.test(character)) return '';
  return DIRECTION.test(character) ? '\ufffd' : character;
}
