# flatback_npm_packages(VARIABLE): the packages that package.json and package-lock.json of this folder name, under node_modules in
# its binary folder; VARIABLE is the file that exists when they do. No package's own install step is run.
function(flatback_npm_packages variable)
    set(installed ${CMAKE_CURRENT_BINARY_DIR}/node_modules/.package-lock.json)
    add_custom_command(OUTPUT ${installed}
        COMMAND ${CMAKE_COMMAND} -E copy ${CMAKE_CURRENT_SOURCE_DIR}/package.json
            ${CMAKE_CURRENT_SOURCE_DIR}/package-lock.json ${CMAKE_CURRENT_BINARY_DIR}
        COMMAND npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
        COMMAND ${CMAKE_COMMAND} -E touch ${installed}
        DEPENDS package.json package-lock.json
        WORKING_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}
        COMMENT "Fetching npm's packages for ${CMAKE_CURRENT_SOURCE_DIR}" VERBATIM)
    set(${variable} ${installed} PARENT_SCOPE)
endfunction()
