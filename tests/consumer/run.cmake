# Installs BUILD into a scratch prefix; builds and runs SOURCE against it, once through the CMake
# package and once through pkg-config.
set(prefix ${BUILD}/tests/consumer/prefix)
set(work ${BUILD}/tests/consumer/build)
file(REMOVE_RECURSE ${prefix} ${work})

function(run)
    execute_process(COMMAND ${ARGN} RESULT_VARIABLE code OUTPUT_VARIABLE out ERROR_VARIABLE out)
    if(NOT code EQUAL 0)
        message(FATAL_ERROR "${ARGN}: ${code}\n${out}")
    endif()
    set(out "${out}" PARENT_SCOPE)
endfunction()

run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})
run(${CMAKE_COMMAND} -S ${SOURCE} -B ${work} -G ${GENERATOR} -DCMAKE_C_COMPILER=${COMPILER}
    -DCMAKE_PREFIX_PATH=${prefix})
run(${CMAKE_COMMAND} --build ${work})
run(${work}/consumer)

if(NOT SANITIZE)
    file(GLOB_RECURSE pc ${prefix}/gorgon.pc)
    get_filename_component(dir ${pc} DIRECTORY)
    set(ENV{PKG_CONFIG_PATH} ${dir})
    run(pkg-config --static --cflags --libs gorgon)
    separate_arguments(flags UNIX_COMMAND "${out}")
    run(${COMPILER} -std=c11 ${SOURCE}/main.c -o ${work}/by_pkg_config ${flags})
    run(${work}/by_pkg_config)
endif()
