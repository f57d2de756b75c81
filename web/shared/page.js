// What the pages have in common: finding elements, asking for a token, saying loudly that the page itself broke.

import { complaint, pasted } from './token.js';

/** The element with this id. */
export function el(id) {
  return document.getElementById(id);
}

/** A new element with text and attributes. */
export function make(tag, { text, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value === true ? '' : value);
  }
  if (text !== undefined) element.textContent = text;
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Sets a text, and touches the page only when it is another. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets a `data-` attribute of an element, and touches the page only when it is another. */
export function mark(element, name, value) {
  const text = String(value);
  if (element.dataset[name] !== text) element.dataset[name] = text;
}

/** Shows a link's icon: `here`, `nobody` or `away`. */
export function showIcon(name) {
  const link = document.querySelector('link[rel=icon]');
  const href = link.href.replace(/icon-\w+\.svg$/, `icon-${name}.svg`);
  if (link.href !== href) link.href = href;
}

/** An error in the page's own code must not leave old figures on it that look alive. */
export function sayWhenBroken(shout) {
  const broke = (error) => shout(`This page has an error of its own and may show old figures. Load it again. (${error})`);
  addEventListener('error', (event) => broke(event.message));
  addEventListener('unhandledrejection', (event) => broke(event.reason));
}

/** The form that a person pastes a token into: `<form>` with an input, and an element for what is wrong. */
export class TokenForm {
  #form;
  #wrong;

  constructor(form, role, took) {
    this.#form = form;
    this.#wrong = form.querySelector('.wrong');
    const input = form.querySelector('input');
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      const token = pasted(input.value);
      const wrong = complaint(token, role);
      this.complain(wrong);
      if (wrong) {
        input.focus();
        return;
      }
      input.value = '';
      took(token);
    });
    input.addEventListener('input', () => this.complain(null));
  }

  /** Says what is wrong, or that nothing is. */
  complain(text) {
    this.#wrong.textContent = text ?? '';
    this.#form.querySelector('input').setAttribute('aria-invalid', String(Boolean(text)));
  }
}
