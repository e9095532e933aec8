/** Takes the place of web-vitals' module of this name: its ids are compared with each other, but never sent. */

let count = 0;

export const generateUniqueID = (): number => count++;
