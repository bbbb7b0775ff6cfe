import{z as r,w as u}from"./request-O7-Mjf0d.js";function a(e,s){return r(u,e)}export{a as u};
